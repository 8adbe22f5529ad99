//! Files that are no picture, whatever they are called.

use stylegan2_c2d::data::SkipReason::{Empty, HtmlPage, NotAnImage, UnsupportedImage};

use crate::attack::{Attack, noise, skips};

pub(crate) fn attacks() -> Vec<Attack> {
    let page = |text: &str| text.as_bytes().to_vec();
    let brand = |brand: &[u8]| [b"\0\0\0\x18ftyp", brand, &noise(900)].concat();
    vec![
        skips("nothing", Vec::new(), Empty),
        skips("one byte", vec![0xff], NotAnImage),
        skips("a page to log in", page("<!DOCTYPE html><title>Log in</title>"), HtmlPage),
        skips("a page with a mark before it", page("\u{feff}\n  <html><body>expired"), HtmlPage),
        skips(
            "an error of a store",
            page("<?xml version='1.0'?><Error><Code>AccessDenied"),
            HtmlPage,
        ),
        skips("a script", page("<script>alert(1)</script>"), HtmlPage),
        skips(
            "a drawing",
            page(
                "<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
            ),
            UnsupportedImage,
        ),
        skips(
            "a drawing of a billion laughs",
            page("<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY lol 'lol'>]><svg>&lol;</svg>"),
            UnsupportedImage,
        ),
        skips("a document", page("%PDF-1.7\n1 0 obj"), NotAnImage),
        skips("PostScript", page("%!PS-Adobe-3.0\n{loop} loop"), NotAnImage),
        skips("a program", [b"\x7fELF\x02\x01\x01".as_slice(), &noise(900)].concat(), NotAnImage),
        skips("a snapshot", b"\x80\x02cos\nsystem\n(S'id'\ntR.".to_vec(), NotAnImage),
        skips(
            "a text",
            page("push graphic-context\nfill 'url(https://127.0.0.1/|ls)'"),
            NotAnImage,
        ),
        skips("an object", page("{\"images\": [\"../../etc/passwd\"]}"), NotAnImage),
        skips("noise", [vec![0], noise(9000)].concat(), NotAnImage),
        skips("zeros", vec![0; 1 << 20], NotAnImage),
        skips("two letters of a bitmap", page("BMW makes motor cars and more of them"), NotAnImage),
        skips("HEIC", brand(b"heic"), UnsupportedImage),
        skips("AVIF", brand(b"avif"), UnsupportedImage),
        skips("JPEG XL", [b"\xff\x0a".as_slice(), &noise(900)].concat(), UnsupportedImage),
        skips(
            "JPEG 2000",
            [b"\0\0\0\x0cjP  \r\n\x87\n".as_slice(), &noise(900)].concat(),
            UnsupportedImage,
        ),
        skips("Photoshop", [b"8BPS\0\x01".as_slice(), &noise(900)].concat(), UnsupportedImage),
    ]
}
