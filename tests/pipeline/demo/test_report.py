"""The report: one self-contained file, with text escaped and failures marked."""

import base64
import io
import re
from dataclasses import replace

from PIL import Image

from erasestream.pipeline.demo import report
from erasestream.pipeline.demo.screenshots import Screenshot, Screenshots
from tests.paths import ROOT
from tests.pipeline.demo.sample_observations import NAME, failed, observations


def test_pictures_are_embedded() -> None:
    """Photo, cut-out and both opened objects can be decoded; cut-outs are transparent."""
    page = report.render(observations())
    found = re.findall(r'<img[^>]* src="data:image/webp;base64,([^"]+)"', page)
    pictures = [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]
    assert len(pictures) == 2 + 2
    assert {each.size for each in pictures} == {(24, 16)}
    assert [each.mode for each in pictures].count("RGBA") == 2
    assert len(re.findall(r'<img[^>]* alt="[^"]+"', page)) == len(pictures)


def test_the_page_is_self_contained() -> None:
    """No script, and no address that a browser would load."""
    page = report.render(observations())
    assert "<script" not in page
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)|url\(([^)]*)\)|@import (.*)""", page)
    assert all(src.startswith("data:") for src, *_ in addresses)


def test_names_are_escaped() -> None:
    page = report.render(observations())
    assert NAME not in page
    assert "cup &lt;b&gt;&amp;amp;&lt;/b&gt; saucer.png" in page


def test_the_page_states_that_all_checks_hold() -> None:
    page = report.render(observations())
    assert "All 16 checks hold." in page
    assert "✗" not in page


def test_a_failing_check_is_marked() -> None:
    """In the title, in the verdict and at the check itself, with its detail."""
    found = observations()
    hit = found.pixels_in_bucket._replace(found=("cutout of listing-2, piece 1",))
    page = report.render(replace(found, pixels_in_bucket=hit))
    assert "<title>Demo: 1 of 16 checks do not hold</title>" in page
    assert page.count("✗ does not hold") == 1
    assert "cutout of listing-2, piece 1" in page


def test_a_failed_result_is_shown_with_its_sentence() -> None:
    found = observations()
    page = report.render(replace(found, uploads=[failed(each) for each in found.uploads]))
    assert page.count("<strong>No cut-out.</strong> truncated: The image ends too early") == 2


def test_times_come_from_the_events() -> None:
    """Two seconds of inference, and three from sending to receiving the result."""
    page = report.render(observations())
    assert "infer: 2.00 s" in page
    assert '<div class="total">3.00 s</div>' in page


def test_each_topic_with_images_shows_its_sum_of_hours() -> None:
    """Age when appended, retention, segment, check and deletion, and their sum."""
    page = report.render(observations())
    assert "4:01 + 18:38 + 0:15 + 0:06 = <strong>23:00</strong>" in page
    # consent, revocations, the lane's ledger and erasures, the shared ledger, and the installation
    assert page.count("kept; holds no image") == 6


def test_screenshots_of_the_account_page_are_embedded() -> None:
    """Where there are none, the page has the reason."""
    picture = Screenshot("Mine <now>", b"png")
    page = report.render(observations(), Screenshots((picture,)))
    assert 'src="data:image/png;base64,cG5n"' in page
    assert page.count("Mine &lt;now&gt;") == 2
    without = report.render(observations(), Screenshots(missing="None were taken."))
    assert "<p>None were taken.</p>" in without


def test_the_readme_and_the_report_show_the_same_picture() -> None:
    drawn = (ROOT / "docs/pictures/flow.svg").read_text()
    assert drawn == (report.HERE / report.FLOW).read_text()
    assert drawn.strip() in report.render(observations())
