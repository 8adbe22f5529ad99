//! What texts must look like that a schema does not look at, but a job breaks by.
//!
//! Names and tags follow the grammar of image references; the rest is what the stacks do with
//! the text: one splits the entrypoint at spaces, the other gives it to a shell.

use super::place::Form;

/// The digest of an image, as a registry states it.
pub(super) fn digest(text: &str) -> Form {
    const EXPECTED: &str = "\"sha256:\" and 64 of the digits 0-9a-f";
    let cure = "take the digest that the push prints, with sha256: in front";
    let Some(digits) = text.strip_prefix("sha256:") else { return Err((EXPECTED, cure)) };
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 64 || !digits.bytes().all(is_digit) {
        return Err((EXPECTED, cure));
    }
    if digits.bytes().all(|byte| byte == b'0') {
        return Err(("the digest of a pushed image, not the placeholder of zeros", cure));
    }
    Ok(())
}

/// The name of an image: `[HOST[:PORT]/]PART[/PART]...`.
pub(super) fn image(text: &str) -> Form {
    const EXPECTED: &str = "the name of an image such as registry.example.org/name/stylegan2-c2d";
    if text.contains('@') {
        return Err(("a name without a digest", "put the digest into checksum (--digest)"));
    }
    if text.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        return Err(("a name without a tag", "put the tag into tag (--tag)"));
    }
    let is_host = |part: &str| {
        part == "localhost"
            || part.contains(|char: char| ".:".contains(char) || char.is_ascii_uppercase())
    };
    let name = match text.split_once('/') {
        Some((host, _)) if is_host(host) && !is_host_and_port(host) => {
            return Err((EXPECTED, "what stands before the first slash is no host"));
        }
        Some((host, name)) if is_host(host) => name,
        _ => text,
    };
    if name.split('/').all(is_name_part) {
        Ok(())
    } else {
        Err((EXPECTED, "parts are of a-z and 0-9, with . _ or - between"))
    }
}

/// The tag of an image.
pub(super) fn tag(text: &str) -> Form {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_rest = |byte: u8| is_word(byte) || byte == b'.' || byte == b'-';
    match text.as_bytes() {
        [first, rest @ ..]
            if is_word(*first) && rest.len() < 128 && rest.iter().all(|byte| is_rest(*byte)) =>
        {
            Ok(())
        }
        _ => Err(("1 to 128 of A-Z, a-z, 0-9, _ . and -, with no . or - in front", "")),
    }
}

/// An absolute path, with at most one plain word after it.
pub(super) fn entrypoint(text: &str) -> Form {
    let is_plain = |text: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-=".contains(&byte);
        !text.is_empty() && text.bytes().all(is_plain)
    };
    let mut words = text.split(' ');
    let path = words.next().unwrap_or_default();
    let is_allowed = path.starts_with('/')
        && !path.ends_with('/')
        && is_plain(path)
        && words.next().is_none_or(is_plain)
        && words.next().is_none();
    if is_allowed {
        Ok(())
    } else {
        Err((
            "an absolute path and at most one plain word after a single space",
            "the stacks split it at spaces or give it to a shell: no quotes, no $",
        ))
    }
}

/// The address of a file, from which the node can take a name.
pub(super) fn url(text: &str) -> Form {
    const EXPECTED: &str = "an address such as https://host/path/file";
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err((EXPECTED, "it begins with https:// or http://"));
    };
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
        return Err((EXPECTED, "write spaces and other signs percent-encoded"));
    }
    if text.contains('#') {
        return Err((EXPECTED, "leave out what begins with #"));
    }
    let address = rest.split('?').next().unwrap_or_default();
    let Some((host, path)) = address.split_once('/') else {
        return Err((EXPECTED, "a path to the file follows the host"));
    };
    if host.contains('@') {
        return Err((EXPECTED, "leave out user and password: the file must be public"));
    }
    if !is_host_and_port(host) {
        return Err((EXPECTED, "that host is none"));
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") {
        return Err((EXPECTED, "the path ends in the name of a file, not in a slash or dots"));
    }
    if path.split('/').any(|part| part.len() == 40 && part.bytes().all(|byte| byte == b'0')) {
        return Err(("an address of your own", "put a commit in place of the zeros (--file-url)"));
    }
    Ok(())
}

/// Whether an address says which commit it means, so that what it serves can not change.
pub(super) fn is_pinned(url: &str) -> bool {
    url.split(['/', '?', '=', '&'])
        .any(|part| part.len() == 40 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// An instant such as `2026-01-01T00:00:00Z`.
pub(super) fn instant(text: &str) -> Form {
    let shape: String =
        text.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
    match shape.as_str() {
        "0000-00-00T00:00:00Z" | "0000-00-00T00:00:00.000Z" => Ok(()),
        _ => Err(("an instant such as 2026-01-01T00:00:00Z", "")),
    }
}

/// A number of whole and broken parts, without sign and exponent.
pub(super) fn price(text: &str) -> Form {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, broken) = text.split_once('.').unwrap_or((text, "0"));
    if is_digits(whole) && is_digits(broken) {
        Ok(())
    } else {
        Err(("a price such as \"0\" or \"2.5\"", "0 makes it free"))
    }
}

/// `a-z`, `0-9`, with single dots, one or two underscores or any dashes between.
fn is_name_part(part: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_separator = |text: &str| {
        matches!(text, "." | "_" | "__") || (!text.is_empty() && text.bytes().all(|b| b == b'-'))
    };
    let bytes = part.as_bytes();
    bytes.first().is_some_and(|byte| is_inner(*byte))
        && bytes.last().is_some_and(|byte| is_inner(*byte))
        && part
            .split(|char: char| char.is_ascii_lowercase() || char.is_ascii_digit())
            .all(|between| between.is_empty() || is_separator(between))
}

/// `HOST` or `HOST:PORT`, where the host may be an address of numbers in brackets.
fn is_host_and_port(text: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && is_port;
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_part) && port.is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(form: fn(&str) -> Form, allowed: &[&str], refused: &[&str]) {
        for text in allowed {
            assert_eq!(form(text), Ok(()), "{text}");
        }
        for text in refused {
            assert!(form(text).is_err(), "{text}");
        }
    }

    #[test]
    fn digests() {
        let digits = "8221d20c1c16491d7d56b9657ea09082c0ee4a8ab1a6621fa720da58b09580e4";
        let with = |prefix: &str, digits: &str| format!("{prefix}{digits}");
        all(
            digest,
            &[&with("sha256:", digits)],
            &[
                digits,
                &with("sha256:", &digits[1..]),
                &with("sha256:", &digits.to_uppercase()),
                &with("sha512:", digits),
                &with("sha256:", &"0".repeat(64)),
                &with("sha256:", &with(digits, "0")),
                "",
            ],
        );
    }

    #[test]
    fn images() {
        let allowed = [
            "stylegan2-c2d",
            "example/stylegan2-c2d",
            "ghcr.io/example/stylegan2-c2d",
            "localhost/x",
            "localhost:5000/a/b_c/d__e/f.g/h---i",
            "REG.example.org:443/x",
            "[::1]:5000/x",
        ];
        let refused = [
            "example/stylegan2-c2d:0.1.0",
            "example/stylegan2-c2d@sha256:00",
            "Example",
            "example/StyleGAN2",
            "example//x",
            "/x",
            "x/",
            "a..b",
            "a___b",
            "-a",
            "a_",
            "host.org:0/x",
            "host.org:70000/x",
            "-host.org/x",
            "a b",
            "é",
        ];
        all(image, &allowed, &refused);
    }

    #[test]
    fn tags() {
        let (long, longer) = ("x".repeat(128), "x".repeat(129));
        all(
            tag,
            &["0.1.0", "_", "v1-cuda", &long],
            &[".1", "-1", "a/b", "a:b", "a b", "", &longer],
        );
    }

    #[test]
    fn entrypoints() {
        let allowed = ["/usr/local/bin/stylegan2-c2d", "/x y", "/x --threads=2"];
        let refused = [
            "stylegan2-c2d",
            "/x ",
            "/x  y",
            "/x y z",
            " /x",
            "/x $ALGO",
            "/x 'y'",
            "/x;y",
            "/",
            "",
        ];
        all(entrypoint, &allowed, &refused);
    }

    #[test]
    fn urls() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let pinned = format!("https://host.org/name/{commit}/Dockerfile");
        let zeros = pinned.replace(commit, &"0".repeat(40));
        let allowed =
            [&pinned, "http://127.0.0.1:8000/file", "https://h/a?x=/y/", "https://[::1]/a%20b"];
        let refused = [
            "ftp://host/file",
            "host/file",
            "https://host",
            "https://host/",
            "https://host/folder/",
            "https://host/folder/?file=x",
            "https://host/..",
            "https:///file",
            "https://user:word@host/file",
            "https://host/a b",
            "https://host/é",
            "https://host/a#b",
            "https://host:0/a",
            "https://ho_st/a",
            &zeros,
        ];
        all(url, &allowed, &refused);
        assert!(is_pinned(&pinned));
        assert!(is_pinned(&format!("https://host/file?ref={commit}")));
        assert!(!is_pinned("https://host/main/Dockerfile"));
    }

    #[test]
    fn instants_and_prices() {
        all(
            instant,
            &["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123Z"],
            &["2026-01-01", "2026-01-01 00:00:00", "today", ""],
        );
        all(price, &["0", "2.5", "10"], &["", ".5", "1.", "-1", "1e3", "1,5", "free"]);
    }
}
