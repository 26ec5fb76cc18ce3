"""The link check of the documents."""

from __future__ import annotations

from pathlib import Path

from tools import docs


def test_dead_links_and_anchors_are_found_and_others_pass(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# Where to add things\n")
    page = tmp_path / "a.md"
    page.write_text(
        "# Top\n[ok](b.md) [ok](b.md#where-to-add-things) [ok](#top) [out](https://example.org/x)\n"
        "```\n[not a link](nowhere.md)\n```\n[dead](c.md) [dead](b.md#no-such)\n![dead](picture.png)\n"
    )
    dead = [line.rsplit(" ", 1)[1] for line in docs.dead_links(page)]
    assert dead == ["c.md", "b.md#no-such", "picture.png"]
