"""Which pictures are taken, and how they are written."""

import base64
from pathlib import Path

import pytest

from api_contracts.content import (
    IMAGE_LIMIT,
    URL_LIMIT,
    check_image_url,
    data_url,
    image_type,
    image_url,
)
from tests.parts.tasks import GIF, JPEG, PIXEL, PNG, WEBP

KINDS = {"image/png": PNG, "image/jpeg": JPEG, "image/gif": GIF, "image/webp": WEBP}

PUBLIC = [
    "https://example.com/a.png",
    "HTTPS://EXAMPLE.COM/A.PNG",
    "https://example.com",
    "https://example.com:443/a",
    "https://example.com.:8443/a?b=c#d",
    "https://cdn_1.example.co.uk/a",
    "https://xn--bcher-kva.example/a",
    "https://xn--p1ai.xn--p1ai/a",
    "https://localhost.example.com/",
    "https://internal-assets.com/",
    "https://1.1.1.1/a.png",
    "https://8.8.8.8:443/",
    "https://0x08080808/",
    "https://134744072/",
    "https://[2606:4700:4700::1111]/a",
    "https://[2606:4700:4700::1111]:443/a",
    "https://[::ffff:8.8.8.8]/",
    "https://example.com/@user",
    "https://example.com?u=a@b.example",
    "https://example.com/%2e%2e/a",
]

#: Hosts that are not public, in every spelling that some resolver takes.
PRIVATE = [
    *("localhost", "LOCALHOST", "localhost.", "a.localhost", "localhost.localdomain"),
    *("intranet", "router", "db.internal", "printer.local", "nas.lan", "wiki.corp", "x.home.arpa"),
    *("home.arpa", "fritz.home", "a.private", "metadata.google.internal", "db.default.svc"),
    *("127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "127.255.255.254", "0.0.0.0", "0"),
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1"),
    *("169.254.169.254", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "203.0.113.7"),
    *("2130706433", "0x7f000001", "0X7F000001", "017700000001", "0x7f.1", "0177.0.0.1", "0x7f.0.1"),
    *("2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "3232235777", "10.1", "192.168.257"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[fe80::1]", "[fd00::1]", "[fc00::1]", "[fec0::1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[::127.0.0.1]", "[ff02::1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]"),
    *("[2001:db8::1]", "[100::1]", "[4000::1]", "[::ffff:0:127.0.0.1]"),
]

#: Hosts that no two programs read the same way.
UNREADABLE = [
    *("", ":443", "[", "[]", "[::1", "::1", "[v1.a]", "[example.com]", "[fe80::1%25eth0]"),
    *("[2606:4700::1].example.com", "example.com:abc", "example.com:443:443", "example.com:999999"),
    *("256.0.0.1", "1.2.3.4.5", "127.0.0.1.5", "1.2.3.08", "4294967296", "example.0x7f", "a.1"),
    *("%31%32%37.0.0.1", "127.0.0.1%25", "127.0.0.1%00", "exam%70le.com", "example..com"),
    *("example.com..", ".example.com", "example.com;a", "example.com,a", "a$b.com", "a'b.com"),
    *("xn--", "*.example.com", "{host}.example.com", f"{'a' * 64}.example.com"),
]


@pytest.mark.parametrize("url", PUBLIC)
def test_a_public_https_url_is_taken_and_passed_on_as_it_is(url: str) -> None:
    assert image_url(url) == url


@pytest.mark.parametrize("host", [*PRIVATE, *UNREADABLE])
def test_a_host_that_may_not_be_public_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"^an image URL must name a public host$"):
        check_image_url(f"https://{host}/a.png")


@pytest.mark.parametrize("host", PRIVATE)
def test_a_port_does_not_make_a_host_public(host: str) -> None:
    with pytest.raises(ValueError, match="must name a public host"):
        check_image_url(f"https://{host}:8443/a.png")


@pytest.mark.parametrize(
    "authority",
    [
        *("user@example.com", "user:password@example.com", "@example.com", ":@example.com"),
        *(
            "example.com@127.0.0.1",
            "example.com:443@localhost",
            "127.0.0.1@example.com",
            "a@b@c.io",
        ),
    ],
)
def test_a_url_with_a_user_is_refused(authority: str) -> None:
    with pytest.raises(ValueError, match="must not carry a user"):
        check_image_url(f"https://{authority}/a.png")


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/a.png", "HTTP://example.com/a.png", "ftp://example.com/a.png"),
        *("file:///etc/passwd", "FILE:///etc/passwd", "file://localhost/etc/passwd", "gopher://a"),
        *(
            "//example.com/a.png",
            "/etc/passwd",
            "a.png",
            "",
            "https",
            "https:",
            "https:/example.com",
        ),
        *(
            "https:example.com",
            "httpsx://example.com",
            "blob:https://example.com/1",
            "s3://bucket/a",
        ),
        *("javascript:alert(1)", "jar:https://example.com!/a", "xdata:image/png;base64,AAAA"),
    ],
)
def test_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be https or a data URL"):
        check_image_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.com\\@127.0.0.1/", "https:\\\\example.com\\a", "https://exa\nmple.com/"),
        *("https://example.com/a b", " https://example.com", "https://example.com/a\r\n", "\0"),
        *("https://example.com/\x7f", "https://exam\tple.com/", "https://b\u00fccher.example/a"),
        *("https://127\u30020\u30020\u30021/", "https://\u2460\u2461\u2466.0.0.1/"),
        *("https://local\u00adhost.example/", "https://example.com/\ud800", "\u2028https://a.io/"),
    ],
)
def test_characters_that_programs_read_differently_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the URL has characters that no URL has$"):
        check_image_url(url)


def test_a_url_is_as_long_as_providers_take() -> None:
    longest = "https://example.com/".ljust(URL_LIMIT, "a")
    check_image_url(longest)
    with pytest.raises(ValueError, match=f"longer than {URL_LIMIT} characters"):
        check_image_url(longest + "a")


@pytest.mark.parametrize(("mime", "image"), KINDS.items())
def test_the_type_of_an_image_is_what_its_first_bytes_tell(mime: str, image: bytes) -> None:
    assert image_type(image) == mime
    url = data_url(image)
    assert url.startswith(f"data:{mime};base64,")
    assert base64.b64decode(url.partition(",")[2]) == image
    check_image_url(url)


@pytest.mark.parametrize(
    "image",
    [
        *(
            b"",
            b"\x89PNG",
            b"\x89PNG\r\n\x1a",
            PNG[1:],
            b" " + PNG,
            b"\xff\xd8",
            b"GIF88a",
            b"gif89a",
        ),
        *(b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WEB", b"WEBP", b"BM\0\0", b"%PDF-1.7", b"<svg/>"),
        *(b"II*\0", b"\0\0\0\x1cftypavif", b"PK\x03\x04", b"#!/bin/sh\n", bytes(12)),
    ],
)
def test_bytes_that_are_no_image_are_refused(image: bytes) -> None:
    assert image_type(image) is None
    with pytest.raises(ValueError, match="no PNG, JPEG, WebP or GIF"):
        data_url(image)
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    with pytest.raises(ValueError, match="no PNG, JPEG, WebP or GIF"):
        check_image_url(url)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "AAA",
            "A",
            "====",
            "A===",
            "iVBORw0KGgo",
            "iVBORw0KGgo=AAAA",
            "iVBORw0KGgo==",
            "iVBO*w0K",
        ),
        *("iVBORw0KGgo=\n", "iVBO\nRw0KGgo=", " iVBORw0KGgo=", "iVBORw0KGgo%3D", "iVBORw0K-_8="),
        *("iVBORw0KGgo=\0", "iVBORw0KG\u00e9o=", "iVBORw0KG\ud800o="),
    ],
)
def test_faulty_base64_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the data URL is not base64$"):
        check_image_url(f"data:image/png;base64,{text}")


@pytest.mark.parametrize(
    "head",
    [
        *(
            "data:,",
            "data:image/png,",
            "data:text/plain;base64,",
            "data:;base64,",
            "data:image/;base64,",
        ),
        *(
            "data:image/png;charset=utf-8;base64,",
            "data:image/png; base64,",
            "data: image/png;base64,",
        ),
        *(
            "data:image/png;base64",
            "data:image/png;BASE32,",
            "data:image/p\u00f1g;base64,",
            "data:",
        ),
        "data:application/octet-stream;base64,",
    ],
)
def test_another_data_url_is_refused(head: str) -> None:
    with pytest.raises(ValueError, match="must read data:image/TYPE;base64"):
        check_image_url(head + PIXEL.partition(",")[2])


def test_a_data_url_is_read_without_regard_to_case() -> None:
    check_image_url(PIXEL.replace("data:image/png;base64,", "DATA:Image/PNG;Base64,"))


@pytest.mark.parametrize("spare", range(4))
def test_the_limit_counts_the_bytes_of_the_picture_exactly(spare: int) -> None:
    """Base64 pads to threes, so sizes of every remainder are tried."""
    size = len(PNG) + spare
    image = PNG + bytes(spare)
    url = data_url(image, limit=size)
    check_image_url(url, limit=size)
    for refuse in (lambda: data_url(image, limit=size - 1), lambda: check_image_url(url, size - 1)):
        with pytest.raises(ValueError, match=f"^the image is larger than {size - 1} bytes$"):
            refuse()


def test_a_picture_of_20_mib_is_taken_by_default() -> None:
    url = image_url(PNG + bytes(IMAGE_LIMIT - len(PNG)))
    check_image_url(url)
    with pytest.raises(ValueError, match="larger than 20971520 bytes"):
        image_url(PNG + bytes(IMAGE_LIMIT - len(PNG) + 1))


def test_a_picture_may_be_given_as_path_of_any_kind(tmp_path: Path) -> None:
    file = tmp_path / "picture with no suffix"
    file.write_bytes(WEBP)
    assert image_url(file) == image_url(str(file)) == data_url(WEBP)


def test_a_file_over_the_limit_is_never_read_whole() -> None:
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        image_url("/dev/zero", limit=1000)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        image_url(tmp_path / "none.png")


def test_a_string_with_a_scheme_is_a_url_and_never_a_path() -> None:
    with pytest.raises(ValueError, match="must be https or a data URL"):
        image_url("file:/etc/passwd")
