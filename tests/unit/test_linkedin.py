"""The export of LinkedIn, and archives that are none."""

import io
import stat
import struct
import zipfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from connectors.collect import archive, linkedin
from connectors.collect.archive import MemberError, open_archive
from connectors.collect.linkedin import parse
from connectors.collect.table import Table
from models.collected import Collected, Finished, Refused
from models.errors import SourceError

POST = "https://www.linkedin.com/feed/update/urn%3Ali%3Ashare%3A74480814"
SHARES = f'''Date,ShareLink,ShareCommentary,SharedUrl,MediaUrl,Visibility
2026-04-01 12:00:00,{POST},"First line""
""""
""Second ""quoted"" line {{hashtag|\\#|Streams}} and #AI","https://example.org/a?utm_source=li",,PUBLIC
2026-03-01 12:00:00,https://www.linkedin.com/feed/update/urn%3Ali%3Ashare%3A2,,https://b.org/b,,PUBLIC
2026-02-01 12:00:00,https://www.linkedin.com/feed/update/urn%3Ali%3Ashare%3A3,Friends,,,MEMBER_NETWORK
2026-01-01 12:00:00,{POST},An older row of the first post,,,PUBLIC
'''
COMMENTS = (
    "Date,Link,Message\n"
    '2026-05-01 09:00:00,https://www.linkedin.com/feed/update/urn%3Ali%3Aactivity%3A9,"She said '
    '\\"well\\", C:\\dir"\n'
)
ARTICLE = """<html><head><title>T</title><style>p {color: red}</style></head><body>
<h1><a href="https://www.linkedin.com/pulse/on-streams-ada-1?trk=x">On streams</a></h1>
<p class="created">Created on 2025-01-02 10:00</p>
<p class="published">Published on 2025-01-03 11:30</p>
<div><p>A change stream tells of each change.</p></div></body></html>"""
KEY = "https://www.linkedin.com/feed/update/urn:li:share:74480814"


def written(path: Path, members: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def read(path: Path, **options: Any) -> tuple[dict[str, Collected], list[str], bool]:
    table = Table("li", {"author": "ada", "path": path.name, **options}, path.parent, {})
    source = parse(table)
    assert table.mistakes == []
    *readings, finished = source.read({})
    assert isinstance(finished, Finished)
    found = {one.key: one for one in readings if isinstance(one, Collected)}
    refused = [one.reason for one in readings if isinstance(one, Refused)]
    assert len(found) + len(refused) == len(readings), "nothing twice"
    return found, refused, finished.whole


@pytest.mark.parametrize("shares", ["Shares.csv", "Basic_LinkedInDataExport_1/Shares_123.csv"])
def test_posts_are_read_as_they_were_written(tmp_path: Path, shares: str) -> None:
    found, refused, whole = read(written(tmp_path / "a.zip", {shares: "\ufeff" + SHARES}))
    assert (refused, whole) == ([], True)
    assert set(found) == {KEY, "https://www.linkedin.com/feed/update/urn:li:share:3"}
    assert dict(found[KEY].fields) == {
        "platform": "linkedin",
        "author_id": "ada",
        "link": KEY,
        "published_at": datetime(2026, 4, 1, 12, tzinfo=timezone.utc),
        "shared_link": "https://example.org/a",
        "tags": ["Streams", "AI"],
        "content": 'First line\n\nSecond "quoted" line #Streams and #AI',
    }


def test_posts_that_only_connections_saw_stay_away_if_the_source_says_so(tmp_path: Path) -> None:
    found, _, _ = read(written(tmp_path / "a.zip", {"Shares.csv": SHARES}), public_only=True)
    assert set(found) == {KEY}


def test_comments_are_read_on_request_only(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {"Shares.csv": SHARES, "Comments.csv": COMMENTS})
    assert len(read(path)[0]) == 2
    found, refused, _ = read(path, comments=True)
    link = "https://www.linkedin.com/feed/update/urn:li:activity:9"
    assert refused == []
    assert (
        found[f"{link}#comment-2026-05-01 09:00:00"].fields["content"] == 'She said "well", C:\\dir'
    )


def test_an_article_has_its_title_link_and_date_and_a_draft_is_none(tmp_path: Path) -> None:
    members = {
        "Articles/Articles/on-streams.html": ARTICLE,
        "Articles/Articles/draft.html": ARTICLE.replace("Published on 2025-01-03 11:30", ""),
        "Articles/Articles/empty.html": "<h1>x</h1>",
    }
    found, refused, whole = read(written(tmp_path / "a.zip", members))
    assert (refused, whole) == ([], True)
    [(key, one)] = found.items()
    assert key == "https://www.linkedin.com/pulse/on-streams-ada-1"
    assert one.type == "articles"
    assert one.fields["published_at"] == datetime(2025, 1, 3, 11, 30, tzinfo=timezone.utc)
    assert one.fields["content"]["Title"] == "On streams"
    assert "tells of each change" in one.fields["content"]["Content"]
    assert "Published" not in one.fields["content"]["Content"]
    assert "color" not in one.fields["content"]["Content"]


def test_a_bad_row_is_told_by_its_line_and_costs_no_other(tmp_path: Path) -> None:
    rows = [
        "Date,ShareLink,ShareCommentary",
        f"2026-04-01 12:00:00,{POST},good",
        "2026-04-01 12:00:00,not a link,text",
        f"2026-04-01 12:00:00,{POST},{'x' * 140_000}",
        "2026-04-01 12:00:00",
        f"never,{POST}9,good",
    ]
    found, refused, whole = read(written(tmp_path / "a.zip", {"Shares.csv": "\n".join(rows)}))
    assert len(found) == 2
    assert [reason.split(":")[0] for reason in refused] == [
        "Shares.csv line 3",
        "Shares.csv line 4",
    ]
    assert not whole


def test_an_archive_that_is_no_export_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"neither Shares\.csv nor Articles"):
        read(written(tmp_path / "a.zip", {"other.txt": "x"}))


def test_paths_that_lead_out_and_links_are_not_members(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(
        tmp_path / "a.zip",
        {
            "../../Shares.csv": SHARES,
            "/Shares.csv": SHARES,
            "C:\\Shares.csv": SHARES,
            "a\\..\\..\\Shares.csv": SHARES,
            "Shares.csv": SHARES.replace("First", "Own"),
        },
    )
    link = zipfile.ZipInfo("Comments.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    found, refused, whole = read(path, comments=True)
    assert found[KEY].fields["content"].startswith("Own line")
    assert (len(found), refused, whole) == (2, [], True)
    assert "5 members" in caplog.text
    assert list(tmp_path.iterdir()) == [path], "nothing is extracted"


def test_a_bomb_ends_while_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {"Shares.csv": b"x" * 5_000_000, "b": b"y" * 10})
    claimed = path.read_bytes().replace(struct.pack("<I", 5_000_000), struct.pack("<I", 10))
    path.write_bytes(claimed)  # the size that the archive claims is a lie
    with open_archive(path) as opened:
        with pytest.raises(MemberError, match=r"unpacks to more than|broken"):
            opened.read(opened.members[0], 32_000_000)
        assert opened.read(opened.members[1], 100) == b"y" * 10
    found, [reason], whole = read(path)
    assert not found
    assert reason
    assert not whole


def test_the_ratio_of_a_member_is_bounded(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {"Shares.csv": b"x" * 5_000_000})
    with open_archive(path) as opened, pytest.raises(MemberError, match="unpacks to more than"):
        opened.read(opened.members[0], 32_000_000)


def test_an_archive_of_many_members_that_unpack_to_too_much_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_TOTAL", 1000)
    path = written(tmp_path / "a.zip", {f"{n}/Shares.csv": b"x" * 400 for n in range(3)})
    with pytest.raises(SourceError, match="more than 1,000 bytes"):
        read(path)


def test_a_list_of_members_that_is_too_long_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_DIRECTORY", 66_000)
    path = written(tmp_path / "a.zip", {f"{n:0>200}": b"" for n in range(500)})
    with pytest.raises(SourceError, match="list of members has more than 66,000 bytes"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceError, match="no zip archive"):
        read(tmp_path / "a.zip")
    (tmp_path / "a.zip").unlink()
    with pytest.raises(SourceError, match="there is no file"):
        read(tmp_path / "a.zip")


def test_an_archive_that_is_cut_or_changed_anywhere_raises_nothing_else(tmp_path: Path) -> None:
    whole = written(
        tmp_path / "a.zip", {"Shares.csv": SHARES, "Articles/a.html": ARTICLE}
    ).read_bytes()
    path = tmp_path / "b.zip"
    step = max(1, len(whole) // 30)
    for at in range(0, len(whole), step):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(content)
            try:
                found, refused, finished = read(path)
            except SourceError:
                continue
            assert finished == (not refused)
            assert len(found) + len(refused) > 0


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = bytearray(written(tmp_path / "a.zip", {"Shares.csv": SHARES}).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    found, [reason], whole = read(tmp_path / "a.zip")
    assert (found, whole) == ({}, False)
    assert "encrypted" in reason


def test_an_article_of_bad_bytes_costs_no_other(tmp_path: Path) -> None:
    members = {"Articles/a.html": b"\xff\xfe\xff", "Articles/b.html": ARTICLE.encode()}
    found, [reason], whole = read(written(tmp_path / "a.zip", members))
    assert (len(found), whole) == (1, False)
    assert reason == "Articles/a.html: it is not UTF-8"


def test_the_size_of_an_article_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linkedin, "_LONGEST_ARTICLE", 100)
    _, [reason], _ = read(written(tmp_path / "a.zip", {"Articles/a.html": ARTICLE}))
    assert "more than 100 bytes" in reason


def test_a_file_object_is_never_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (archive.MAX_DIRECTORY + 10))
    with archive._Bounded(tmp_path / "a") as file:
        assert len(file.read()) == archive.MAX_DIRECTORY
        file.seek(0, io.SEEK_SET)
        with pytest.raises(zipfile.BadZipFile):
            file.read(archive.MAX_DIRECTORY + 1)
