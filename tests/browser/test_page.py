"""The hub's page in a real browser: it shows what is there, loads nothing, and runs nothing of what nodes say."""

from __future__ import annotations

import asyncio
from pathlib import Path

from protokube.hub.core.checks import Mode
from protokube.hub.core.membership import Standing
from protokube.hub.core.policy import Policy
from protokube.hub.operatorclient import HubApi
from protokube.hub.pagerelay import relaying
from tests.hub.lab import HOST, fleet, operator
from tests.hub.test_commands import Work
from tests.lab.browser import browser

EVIL = "<script>document.title='owned'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>\"'"


def test_the_page_in_a_real_browser(tmp_path: Path) -> None:
    async def test() -> None:
        work = Work()
        async with fleet(tmp_path / "hub", ["n0", "n1"], work.handlers(), policy=Policy(Mode.HUB)) as (hub, _nodes):
            hub.gate.expel("n1", Standing.EVICTED, EVIL, "root")
            hub.desk.detach(hub.desk.links["n1"])
            link = hub.desk.links["n0"]
            link.hello = type(link.hello)("n0", "b", EVIL, EVIL, held=True)
            running = hub.submit(["n0"], "plan")
            async with (
                HubApi(HOST, hub.lab.port, operator(hub, tmp_path / "anna")) as api,
                relaying(api, 0) as url,
                browser(tmp_path / "browser") as tab,
            ):
                await tab.open(url)
                title = "hub: 1 of 2 linked"
                assert await tab.value("document.title") == title
                text = await tab.value("document.body.innerText")
                assert running in text and EVIL[:60] in text and f"evicted: {EVIL[:60]}" in text
                rows = await tab.value("document.querySelectorAll('#nodes tbody tr').length")
                assert rows == 2 and await tab.value("document.querySelectorAll('img, script').length") == 0
                # The style counts, so its hash in the policy is right; a script's would not.
                assert (
                    await tab.value("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
                )
                assert set(tab.requested) == {url} and tab.complaints == []
                work.go.set()
                await hub.ended(running, "n0")
                await tab.loaded()  # by itself
                assert running not in await tab.value("document.body.innerText")
                assert set(tab.requested) == {url} and tab.complaints == []
                # What stands in the page can't be run even by one who could write it there.
                await tab.value(
                    "document.body.insertAdjacentHTML('beforeend', '<b onclick=\"document.title=1\">x</b>')"
                )
                await tab.value("document.querySelector('b').click()")
                assert await tab.value("document.title") == title
                await tab.open(url.replace(url.split("/")[3], "guessed"))
                assert "404" in await tab.value("document.body.innerText")

    asyncio.run(test())
