"""Reads a server's metrics as Prometheus does."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from gql_server.telemetry.telemetry import Telemetry


class Scraped:
    """The values of one scrape."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self.names = {family.name for family in families}
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Return a sample's value, if there is one; it has these labels and no others, but for a bucket's."""
        return next((s.value for s in self.samples if s.name == name and s.labels == labels), None)


async def scrape(client: httpx.AsyncClient) -> Scraped:
    """Return what /metrics answers."""
    response = await client.get("/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain; version=")
    return Scraped(response.text)


def rendered(telemetry: Telemetry) -> Scraped:
    """Return the values as they are, without a server."""
    return Scraped(telemetry.metrics.render("")[0].decode())
