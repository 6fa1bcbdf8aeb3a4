"""The console in a real browser, against a real server process with keys on."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from recsys.artifacts.registry import Registry
from serving.security import add_key
from tests.factories import write_tiny_bundle
from tests.serving.browser import FLAGS, PATIENCE_MS, PHONE, chromium_path, watched
from tests.serving.server import running_server

expect.set_options(timeout=PATIENCE_MS)
TOO_WIDE = """
(() => {
  const whole = document.documentElement.scrollWidth;
  const wide = (one) => one.getBoundingClientRect().right > innerWidth && !one.closest(".scroll");
  const found = [...document.querySelectorAll("body *")].filter(wide).map((one) => one.outerHTML.slice(0, 90));
  return whole <= innerWidth ? [] : [whole, ...found];
})()
"""  # what makes a page scroll sideways
PAGES = ("/", "/console/users", "/console/operations", "/docs")


@dataclass(frozen=True)
class Site:
    """The running endpoint, its keys and versions."""

    url: str
    reader: str
    admin: str
    versions: tuple[str, str]

    def ask(self, method: str, path: str, **content) -> httpx.Response:
        return httpx.request(
            method, self.url + path, headers={"x-api-key": self.admin}, timeout=30, **content
        )


@pytest.fixture(scope="module")
def browser():
    path = chromium_path()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("console")
    registry = Registry(folder / "registry")
    versions = []
    for seed in (0, 1):
        bundle = write_tiny_bundle(folder / f"b{seed}", seed=seed)
        ndcg = {"mean": 0.1 + seed / 100, "low": 0.05, "high": 0.15}
        evaluation = {"cutoff": 10, "users": 9, "policies": {"adapted": {"0": {"ndcg": ndcg}}}}
        (bundle / "evaluation.json").write_text(json.dumps(evaluation))
        versions.append(registry.publish(bundle, "metaq"))
    registry.set_alias("metaq", "champion", versions[0])
    keys = folder / "keys.json"
    reader = add_key(keys, "reader", ("read",))
    admin = add_key(keys, "admin", ("read", "write", "admin"))
    settings = {"registry": registry.root, "auth": "on", "api_keys": keys}
    with running_server(None, folder / "store.sqlite", **settings) as server:
        yield Site(server.url, reader, admin, (versions[0], versions[1]))


def test_a_new_user_sees_the_list_learn_and_why_and_nothing_is_stored(browser, site):
    with watched(browser) as seen:
        page = seen.page
        page.goto(site.url + "/")
        page.get_by_label("Key", exact=True).fill(site.reader)
        page.keyboard.press("Enter")
        rows = page.locator("#ranked > li")
        expect(rows).to_have_count(10)
        expect(page.locator("#status")).to_have_text("nothing known yet")
        expect(page.locator("#plain > li")).to_have_count(10)
        first = rows.evaluate_all("rows => rows.map(row => row.dataset.item)")
        cards = page.locator("#cards .card")
        expect(cards).to_have_count(12)
        liked = [cards.nth(place).get_attribute("data-item") for place in (0, 4)]
        cards.nth(0).click()
        expect(page.locator("#status")).to_contain_text("adapted to 1 like")
        cards.nth(4).focus()  # the other one by keyboard
        page.keyboard.press("Space")
        expect(page.locator("#status")).to_contain_text("adapted to 2 likes")
        expect(cards.nth(4)).to_have_attribute("aria-pressed", "true")
        after = rows.evaluate_all("rows => rows.map(row => row.dataset.item)")
        assert after != first
        assert not set(liked) & set(after)
        expect(page.locator("#ranked .move").first).to_be_visible()
        served = site.ask(
            "POST",
            "/console/api/preview",
            json={"liked": liked},
        ).json()
        assert after == [item["item_id"] for item in served["items"]]
        pulled = next(place for place, item in enumerate(served["items"]) if item["pulls"])
        rows.nth(pulled).locator("summary").press("Enter")
        why = rows.nth(pulled).locator(".why")
        told = served["items"][pulled]
        expect(why).to_contain_text(f"{told['base_score']:.3f}".replace("-", "−"))
        expect(why).to_contain_text(f"± {told['deviation']:.3f}")
        expect(why.locator(".pull").first).to_contain_text(told["pulls"][0]["title"])
        why.get_by_role("button", name="Show similar items").click()
        expect(why.locator(".near li")).to_have_count(5)
        why.locator(".near button").first.click()
        expect(page.locator("#status")).to_contain_text("adapted to 3 likes")
        page.get_by_label("Search all items by title").fill("item 3")
        expect(page.locator("#picks-why")).to_contain_text("by title")
        expect(cards.first).to_contain_text("Item 3")
        page.get_by_role("button", name="Start again").click()
        expect(page.locator("#status")).to_have_text("nothing known yet")
        assert rows.evaluate_all("rows => rows.map(row => row.dataset.item)") == first
        assert page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
        assert not [address for address in seen.asked if site.reader in address]
        assert (seen.complaints, seen.others(site.url)) == ([], [])
    assert site.ask("GET", "/v1/export").text == ""


def test_a_user_is_looked_up_escaped_and_deleted_with_proof(browser, site):
    user = "<img src=x onerror=alert(1)>"
    site.ask("PUT", "/v1/items/odd", json={"title": "<b>Lantern</b> & co"})
    events = [
        {"user": user, "item_id": item, "event_type": "purchase", "value": 3.5}
        for item in ("i3", "odd", "i8", "i8")
    ]
    assert site.ask("POST", "/v1/events", json=events).json()["accepted"] == 4
    lists = [site.ask("POST", "/v1/recommend", json={"user": user}) for _ in range(2)]
    with watched(browser, key=site.admin) as seen:
        page = seen.page
        page.goto(site.url + "/console/users")
        page.get_by_label("User id, as your service sends it").fill(user)
        page.keyboard.press("Enter")
        expect(page.locator("#result .ranked > li")).to_have_count(10)
        expect(page.locator(".events tbody tr")).to_have_count(4)
        expect(page.locator(".events")).to_contain_text("<b>Lantern</b> & co")
        assert page.locator("#result img, #result b, td b").count() == page.locator(".sure b").count()
        expect(page.locator(".facts")).to_contain_text("Events it has learnt from4")
        page.get_by_role("button", name="Delete…").click()
        go = page.get_by_role("button", name="Delete for good")
        expect(go).to_be_disabled()
        page.get_by_label("To confirm, type the user id").fill("somebody else")
        expect(go).to_be_disabled()
        page.keyboard.press("Escape")
        kept = site.ask("GET", f"/v1/users/{quote(user, safe='')}/events").json()["events"]
        assert len(kept) == 4
        page.get_by_role("button", name="Delete…").click()
        page.get_by_label("To confirm, type the user id").fill(user)
        go.click()
        proof = page.locator("#proof")
        expect(proof).to_contain_text("nothing is left")
        table = proof.locator("tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(c => c.innerText))"
        )
        assert table == [["events", "4", "0"], ["impressions", str(len(lists)), "0"], ["users", "0", "0"]]
        page.get_by_label("User id, as your service sends it").fill(user)
        page.get_by_role("button", name="Look up").click()
        expect(page.locator("#result")).to_contain_text("Nothing is kept of")
        assert (seen.complaints, seen.others(site.url)) == ([], [])


def test_a_version_is_promoted_and_rolled_back_with_the_key_of_an_admin_alone(browser, site):
    one, two = site.versions
    with watched(browser) as seen:
        page = seen.page
        page.goto(site.url + "/console/operations")
        key = page.get_by_label("Key", exact=True)
        key.fill(site.reader)
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#ask-key-why")).to_contain_text("may not do this")
        assert seen.complaints == [
            "Failed to load resource: the server responded with a status of 403 (Forbidden)"
        ]
        seen.complaints.clear()
        key.fill(site.admin)
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#models tr.active")).to_contain_text(one)
        expect(page.locator("#models")).to_contain_text("0.110")
        page.get_by_role("button", name=f"Promote {two}").click()
        page.get_by_role("button", name="Cancel").last.click()
        assert site.ask("GET", "/v1/models").json()["active"] == one
        page.get_by_role("button", name=f"Promote {two}").click()
        page.get_by_role("button", name="Promote", exact=True).last.click()
        expect(page.locator("#moved")).to_have_text(f"{two} answers now.")
        expect(page.locator("#models tr.active")).to_contain_text(two)
        assert site.ask("GET", "/v1/models").json()["active"] == two
        assert site.ask("POST", "/v1/recommend", json={"user": "p", "n": 1}).json()["model"] == two
        page.get_by_role("button", name="Roll back").first.click()
        page.locator("#sure-go").click()
        expect(page.locator("#models tr.active")).to_contain_text(one)
        assert site.ask("GET", "/v1/models").json()["aliases"]["champion"] == one
        assert (seen.complaints, seen.others(site.url)) == ([], [])


def test_operations_show_what_happened_and_that_few_lists_say_nothing(browser, site):
    for turn in range(6):
        site.ask("POST", "/v1/recommend", json={"user": f"few-{turn}", "n": 3})
    with watched(browser, key=site.admin) as seen:
        page = seen.page
        page.goto(site.url + "/console/operations")
        told = site.ask("GET", "/console/api/operations").json()
        accepted = page.locator(".tile", has_text="Events accepted").locator(".value")
        expect(accepted).to_have_text(f"{told['events']['accepted']:.0f}")
        expect(page.locator("#verdict")).to_have_text("these logs cannot say")
        expect(page.locator("#estimate .sentence")).to_contain_text("at least 100 are needed")
        expect(page.locator("#estimate .greyed")).to_be_visible()
        other = site.versions[1]
        page.get_by_role("button", name=f"Let {other} rank in the shadow").click()
        expect(page.locator("#moved")).to_have_text(f"{other} ranks in the shadow.")
        expect(page.locator("#estimate")).to_contain_text("challenger")
        page.get_by_role("button", name="Stop the shadow").click()
        expect(page.locator("#moved")).to_have_text("Nothing ranks in the shadow.")
        assert (seen.complaints, seen.others(site.url)) == ([], [])


@pytest.mark.parametrize("path", PAGES)
def test_pages_can_be_used_by_everybody_on_a_desk_and_on_a_phone(browser, site, path):
    for size, scheme in ((None, "light"), (PHONE, "dark")):
        with watched(browser, size=size, scheme=scheme, key=site.admin) as seen:
            page = seen.page
            page.goto(site.url + path)
            if path == "/":
                page.locator("#cards .card").first.click()
                expect(page.locator("#status")).to_contain_text("adapted to 1 like")
                page.locator("#ranked summary").first.click()
            elif path == "/console/users":
                page.get_by_label("User id, as your service sends it").fill("few-1")
                page.keyboard.press("Enter")
                expect(page.locator("#result .ranked > li")).to_have_count(10)
            elif path == "/console/operations":
                expect(page.locator("#models tbody tr")).to_have_count(2)
            else:
                expect(page.locator("details.route").first).to_be_visible()
                page.locator("details.route summary").first.click()
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            assert page.evaluate(TOO_WIDE) == []
            assert (seen.complaints, seen.others(site.url)) == ([], [])


def test_the_document_of_the_api_shows_every_route(browser, site):
    document = site.ask("GET", "/openapi.json").json()
    with watched(browser) as seen:
        page = seen.page
        page.goto(site.url + "/docs")
        routes = page.locator("details.route")
        expect(routes).to_have_count(sum(len(methods) for methods in document["paths"].values()))
        page.get_by_label("Filter routes").fill("rollback")
        expect(routes).to_have_count(1)
        assert (seen.complaints, seen.others(site.url)) == ([], [])


def test_an_endpoint_that_fails_is_said_and_asked_again(browser, site):
    with watched(browser, key=site.reader) as seen:
        page = seen.page
        page.route("**/console/api/preview", lambda route: route.abort())
        page.goto(site.url + "/")
        expect(page.get_by_role("alert")).to_contain_text("does not answer")
        page.unroute("**/console/api/preview")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#ranked > li")).to_have_count(10)
        expect(page.locator("#cards .card")).to_have_count(12)
