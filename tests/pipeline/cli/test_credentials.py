"""Keys as they are typed."""

import pytest

from erasestream.pipeline.cli.credentials import id_of


@pytest.mark.parametrize("form", ["{id}", "es_owner_{id}", "es_owner_{id}_{secret}"])
def test_a_key_is_found_by_its_id_its_beginning_and_all_of_it(form: str) -> None:
    id_, secret = "4f7q0d2m9xkt", 19 * "3v"
    assert id_of(form.format(id=id_, secret=secret)) == id_
