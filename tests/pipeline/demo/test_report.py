"""The report: everything in one file, nobody's text taken for markup, failures marked."""

import base64
import io
import re
from dataclasses import replace

from PIL import Image

from erasestream.pipeline.demo import report
from tests.paths import ROOT
from tests.pipeline.demo.making import NAME, evidence, failed


def test_pictures_are_in_the_page() -> None:
    """Photo, cut-out and both opened objects are images that can be decoded, and transparent."""
    page = report.render(evidence())
    found = re.findall(r'<img[^>]* src="data:image/webp;base64,([^"]+)"', page)
    pictures = [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]
    assert len(pictures) == 2 + 2
    assert {each.size for each in pictures} == {(24, 16)}
    assert [each.mode for each in pictures].count("RGBA") == 2
    assert len(re.findall(r'<img[^>]* alt="[^"]+"', page)) == len(pictures)


def test_page_needs_nothing_else() -> None:
    """No script, and no address that a browser would load."""
    page = report.render(evidence())
    assert "<script" not in page
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)|url\(([^)]*)\)|@import (.*)""", page)
    assert all(src.startswith("data:") for src, *_ in addresses)


def test_names_are_escaped() -> None:
    """What a file is called stands there as text."""
    page = report.render(evidence())
    assert NAME not in page
    assert "cup &lt;b&gt;&amp;amp;&lt;/b&gt; saucer.png" in page


def test_page_says_that_all_holds() -> None:
    """Without a failing check nothing is marked as failing."""
    page = report.render(evidence())
    assert "All 14 checks hold." in page
    assert "✗" not in page


def test_failing_check_is_marked() -> None:
    """In the title, in the verdict and at the check itself, with what was found."""
    found = evidence()
    hit = found.pixels_in_bucket._replace(found=("cutout of listing-2, piece 1",))
    page = report.render(replace(found, pixels_in_bucket=hit))
    assert "<title>Demo: 1 of 14 checks do not hold</title>" in page
    assert page.count("✗ does not hold") == 1
    assert "cutout of listing-2, piece 1" in page


def test_failed_result_is_shown_with_its_sentence() -> None:
    """A photo without a cut-out says why."""
    found = evidence()
    page = report.render(replace(found, journeys=[failed(each) for each in found.journeys]))
    assert page.count("<strong>No cut-out.</strong> truncated: The image ends too early") == 2


def test_times_are_those_of_the_events() -> None:
    """Two seconds of inference, and three from sending to having the result."""
    page = report.render(evidence())
    assert "infer: 2.00 s" in page
    assert '<div class="total">3.00 s</div>' in page


def test_sum_of_hours_stands_at_each_topic_with_images() -> None:
    """Age when appended, retention, segment, check and deletion, and what they add up to."""
    page = report.render(evidence())
    assert "4:01 + 18:38 + 0:15 + 0:06 = <strong>23:00</strong>" in page
    # consent, ledger and erasures
    assert page.count("kept; holds no image") == 3


def test_flow_in_the_readme_is_the_one_in_the_report() -> None:
    """One picture in two places."""
    drawn = (ROOT / "docs/pictures/flow.svg").read_text()
    assert drawn == (report.HERE / report.FLOW).read_text()
    assert drawn.strip() in report.render(evidence())
