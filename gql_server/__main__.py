"""``python -m gql_server`` is the console script ``gql-server``."""

from gql_server.cli import main

if __name__ == "__main__":
    main()
