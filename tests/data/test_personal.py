"""What is taken for personal data, and what is not."""

import pytest

from baro.data.personal import find_personal, mask_personal


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to mina.kim+x@mail.example.co.kr.", "write to [email]."),
        ("메일은 mina@example.com이고요", "메일은 [email]이고요"),
        ("제 번호는 010-1234-5678이에요", "제 번호는 [phone number]이에요"),
        ("01012345678 또는 02-123-4567, 031 123 4567", "[phone number] 또는 [phone number], [phone number]"),
        ("+82 10-1234-5678 and +44 20 7946 0958", "[phone number] and [phone number]"),
        ("call (555) 123-4567", "call [phone number]"),
        ("주민번호 900101-1234567", "주민번호 [resident registration number]"),
        ("card 4111 1111 1111 1111 ok", "card [card number] ok"),
        ("from 8.8.8.8, ok", "from [IP address], ok"),
        ("key sk-abcdefghijklmnop1234 and AKIAABCDEFGHIJKLMNOP", "key [secret key] and [secret key]"),
        ("-----BEGIN RSA PRIVATE KEY-----", "[secret key]"),
    ],
)
def test_what_has_the_form_of_personal_data(text, masked):
    assert mask_personal(text) == masked
    assert mask_personal(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Pi is 3.14159265358979323846",
        "on 2026-11-21 at 10:30, 1,000,000 people; 100-200 pages, 3-4 days",
        "version 10.0.1 of numpy 2.1.0, at 127.0.0.1 or 192.168.0.1",
        "card 4111 1111 1111 1112",  # the check digit is wrong
        "0000 0000 0000 0000",
        "f(x) = 2x + 3, and a[10] @ b",
        "@mina, 서울 강남구 12-3",
        "제3조 2항, 1999년 12월 31일",
        "2^64 = 18446744073709551616",
        "ISBN 978-3-16-148410-0",
        "sk-short",
    ],
)
def test_what_has_not(text):
    assert find_personal(text) == []


def test_stretches_are_in_order_and_apart():
    found = find_personal("a@b.kr 010-1234-5678 c@d.kr")
    assert [(one.kind, one.start, one.end) for one in found] == [
        ("email", 0, 6), ("phone number", 7, 20), ("email", 21, 27)]  # fmt: skip
