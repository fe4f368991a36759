"""The queues of a RabbitMQ: their depth and consumers, a message that is none of ours, and emptying a queue by its name."""

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import TOKENS, Docs, Visit, environment, screenshot
from tests.servers.rabbit import RabbitNode
from tests.servers.serve import Serve

DEAD = "app.deadletter.queue"


def test_queues_of_rabbitmq(
    visit: Visit, mongo_uri: str, docs: Docs, node: RabbitNode, tmp_path: Path
) -> None:
    changes = {"RABBITMQ_URL": node.url}
    with Serve(environment(mongo_uri, docs, **changes), tmp_path, "--workers", "1", token=TOKENS["admin"]) as served:  # fmt: skip
        served.wait()
        page = visit(served)
        page.goto("/dashboard/queues")
        expect(page.locator("main")).not_to_contain_text("There is no broker")
        rows = page.locator("[data-part=queues] tbody tr")
        expect(rows).to_have_count(4)
        expect(rows.first.locator("[data-label=Consumers]")).to_have_text(re.compile("[1-9]"))
        page.get_by_role("button", name="Send a test message").click()
        expect(page.locator(".answer.good")).to_contain_text("through the exchange and back")
        screenshot(page, "queues-rabbitmq")
        page.get_by_text("Empty a queue").click()
        form = page.locator("#purge-form")
        form.get_by_role("combobox").select_option(DEAD)
        form.get_by_label(re.compile("Write its name")).fill("yes")
        form.get_by_role("button").click()
        expect(form.locator(".answer.bad")).to_contain_text("Nothing was removed")
        form.get_by_label(re.compile("Write its name")).fill(DEAD)
        form.get_by_role("button").click()
        expect(form.locator(".answer.good")).to_contain_text("0 messages were removed")
