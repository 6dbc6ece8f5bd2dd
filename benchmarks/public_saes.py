"""How many of the public SAEs this server takes, by their formats and places, and which not.

``python -m benchmarks.public_saes`` reads the catalogue that comes with the server, and no file of an SAE:
tests/formats/test_public_saes.py holds what it says of each kind against the readers.
"""

from collections import Counter

from gql_server.formats.public_saes.catalogue import PublicSae, catalogue

GOAL = 0.98


def row_of(sae: PublicSae) -> tuple[str, str, str, str]:
    """Return the line of the table that an SAE is counted in."""
    reads, writes = (hook and hook.split(".", 2)[-1] for hook in (sae.reads, sae.writes))
    architecture = " ".join(filter(None, (sae.architecture, sae.normalization)))
    return sae.format, architecture, f"{reads} to {writes}" if writes else str(reads), sae.refusal or "taken"


def main() -> None:
    """Print the table and the share."""
    rows = Counter(map(row_of, catalogue()))
    print("| format | architecture | place | SAEs | |")
    print("| --- | --- | --- | --- | --- |")
    for (format, architecture, place, outcome), count in sorted(rows.items()):
        print(f"| {format} | {architecture} | {place} | {count:,} | {outcome} |")
    total, taken = rows.total(), sum(sae.refusal is None for sae in catalogue())
    print(f"\n{taken:,} of {total:,} are taken: {taken / total:.4f}; the goal is {GOAL}.")


if __name__ == "__main__":
    main()
