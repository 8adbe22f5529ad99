//! Who may ask: this machine's own page, and nobody through it.
//!
//! The server listens on 127.0.0.1 alone, but every site that a browser shows can send requests
//! there. A name that leads to 127.0.0.1 (DNS rebinding) comes with a `Host` of its own, a page of
//! another site with an `Origin` or `Sec-Fetch-Site` of its own: all three are looked at. Only the
//! page itself, which is the same for everybody, may be reached by a link from elsewhere. There is
//! nothing but GET, so nothing can be changed in any case.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode, Uri};

/// The page's own files, pictures that it has made, and nothing of any other place.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what does not come from the page itself.
///
/// # Errors
/// Status and words.
pub(super) fn check(
    (method, uri): (&Method, &Uri),
    headers: &HeaderMap,
    port: u16,
) -> Result<(), (StatusCode, String)> {
    let text = |name: HeaderName| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let names = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let is_ours = |host: &[u8]| names.iter().any(|name| name.as_bytes() == host);
    let hosts: Vec<&[u8]> = text(HOST).collect();
    if hosts.len() != 1 || !is_ours(hosts[0]) {
        let words = format!("expected the host {}; open http://{} itself", names[0], names[0]);
        return Err((StatusCode::FORBIDDEN, words));
    }
    let is_own_origin = |origin: &[u8]| origin.strip_prefix(b"http://").is_some_and(is_ours);
    let is_linked = uri.path() == "/";
    let is_own_site = |site: &[u8]| is_linked || site == b"same-origin" || site == b"none";
    if !text(ORIGIN).all(is_own_origin) || !text(SEC_FETCH_SITE).all(is_own_site) {
        let words = format!("expected a request of the page itself; open http://{}", names[0]);
        return Err((StatusCode::FORBIDDEN, words));
    }
    if method != Method::GET && method != Method::HEAD {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "expected GET".to_owned()));
    }
    Ok(())
}

/// What every answer says of itself.
pub(super) fn protect(headers: &mut HeaderMap) {
    let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
    set(CONTENT_SECURITY_POLICY, POLICY);
    // the page remembers pictures while it is open; the browser is to keep none on its disk
    set(CACHE_CONTROL, "no-store");
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &Method, lines: &[(&'static str, &str)]) -> Option<u16> {
        status_at("/api/facts", method, lines)
    }

    fn status_at(path: &str, method: &Method, lines: &[(&'static str, &str)]) -> Option<u16> {
        let headers = lines.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        check((method, &path.parse().unwrap()), &headers.collect(), 85)
            .err()
            .map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_the_page_itself_may_ask() {
        let host = ("host", "localhost:85");
        for good in [
            &[("host", "127.0.0.1:85")][..],
            &[host, ("origin", "http://127.0.0.1:85")],
            &[host, ("sec-fetch-site", "same-origin")],
            &[host, ("sec-fetch-site", "none")],
        ] {
            assert_eq!(status(&Method::GET, good), None, "{good:?}");
        }
        for bad in [
            &[][..],
            &[("host", "localhost")],
            &[("host", "evil.example:85")],
            &[("host", "127.0.0.1:850")],
            &[host, ("host", "127.0.0.1:85")],
            &[host, ("origin", "http://evil.example")],
            &[host, ("origin", "https://127.0.0.1:85")],
            &[host, ("origin", "null")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
        ] {
            assert_eq!(status(&Method::GET, bad), Some(403), "{bad:?}");
        }
        let linked = [host, ("sec-fetch-site", "cross-site")];
        assert_eq!(status_at("/", &Method::GET, &linked), None);
        assert_eq!(status(&Method::POST, &[host, ("origin", "http://localhost:85")]), Some(405));
        assert_eq!(status(&Method::POST, &[host, ("origin", "http://evil.example")]), Some(403));
    }
}
