from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coherence_grpc.errors import CursorForeign, PageTokenInvalid
from coherence_grpc.model import Head
from coherence_grpc.tokens import Cursor, Key, Revision, Signer

OLD, NEW = Key(1, b"o" * 32), Key(2, b"n" * 32)
CURSOR = Cursor(1, 2, b"12345678", 3, 4)
HEAD = Head(1, 7, b"h" * 32)


@pytest.fixture
def signer() -> Signer:
    return Signer([NEW, OLD])


def test_a_cursor_comes_back_as_it_was_issued(signer: Signer) -> None:
    assert signer.read_cursor("acme", signer.cursor("acme", CURSOR)) == CURSOR


def test_a_revision_names_the_head_by_epoch_number_and_first_bytes_of_its_hash(signer: Signer) -> None:
    assert signer.read_revision("acme", signer.revision("acme", HEAD)) == Revision(1, 7, b"h" * 8)


def test_a_page_token_comes_back_for_the_same_request(signer: Signer) -> None:
    assert signer.read_page(b"request", signer.page(b"request", b"position")) == b"position"


def test_tokens_are_opaque_ascii_without_padding(signer: Signer) -> None:
    token = signer.cursor("acme", CURSOR)

    assert token.isascii()
    assert "=" not in token


@pytest.mark.parametrize("tenant_id", ["other", "acm", "acme2", ""])
def test_a_token_of_another_tenant_is_foreign(signer: Signer, tenant_id: str) -> None:
    with pytest.raises(CursorForeign, match="get a new one"):
        signer.read_cursor(tenant_id, signer.cursor("acme", CURSOR))
    with pytest.raises(CursorForeign):
        signer.read_revision(tenant_id, signer.revision("acme", HEAD))


def test_a_token_of_another_kind_is_foreign(signer: Signer) -> None:
    with pytest.raises(CursorForeign):
        signer.read_cursor("acme", signer.revision("acme", HEAD))
    with pytest.raises(CursorForeign):
        signer.read_revision("acme", signer.cursor("acme", CURSOR))
    with pytest.raises(CursorForeign):
        signer.read_revision("acme", signer.page(b"acme", b"x" * 20))


def test_a_page_token_of_another_request_is_invalid(signer: Signer) -> None:
    with pytest.raises(PageTokenInvalid, match="first page"):
        signer.read_page(b"other", signer.page(b"request", b"position"))


def test_the_previous_key_is_accepted_and_the_new_one_signs(signer: Signer) -> None:
    before, after = Signer([OLD]), Signer([NEW])

    assert signer.read_cursor("acme", before.cursor("acme", CURSOR)) == CURSOR
    assert after.read_cursor("acme", signer.cursor("acme", CURSOR)) == CURSOR


def test_a_token_of_an_unknown_key_is_foreign(signer: Signer) -> None:
    with pytest.raises(CursorForeign):
        signer.read_cursor("acme", Signer([Key(3, b"x" * 32)]).cursor("acme", CURSOR))


def test_a_token_of_the_same_key_id_with_another_secret_is_foreign(signer: Signer) -> None:
    with pytest.raises(CursorForeign):
        signer.read_cursor("acme", Signer([Key(2, b"x" * 32)]).cursor("acme", CURSOR))


def test_every_flipped_bit_makes_a_token_foreign(signer: Signer) -> None:
    token = signer.cursor("acme", CURSOR)
    data = urlsafe_b64decode(token + "=" * (-len(token) % 4))

    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CursorForeign):
            signer.read_cursor("acme", urlsafe_b64encode(changed).rstrip(b"=").decode())


@given(st.text(max_size=200) | st.binary(max_size=120).map(lambda data: urlsafe_b64encode(data).decode()))
def test_whatever_else_is_sent_is_foreign(token: str) -> None:
    signer = Signer([NEW, OLD])

    with pytest.raises(CursorForeign):
        signer.read_cursor("acme", token)
    with pytest.raises(CursorForeign):
        signer.read_revision("acme", token)
    with pytest.raises(PageTokenInvalid):
        signer.read_page(b"request", token)
