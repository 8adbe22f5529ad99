//! What a file is, from its first bytes; names are never asked.

use image::ImageFormat;

/// First bytes needed to tell the kinds apart; a tar header is this long.
pub(super) const HEAD_BYTES: usize = 512;

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Image(ImageFormat),
    /// A picture in a format that is not read: HEIC, AVIF, JPEG XL, JPEG 2000, Photoshop, SVG.
    OtherImage,
    Zip,
    Tar,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
    SevenZip,
    Rar,
    Html,
    Empty,
    Other,
}

/// Tells the kind of a file from its first [`HEAD_BYTES`] bytes, or fewer if it is shorter.
pub(super) fn sniff(head: &[u8]) -> Kind {
    const MAGICS: &[(&[u8], Kind)] = &[
        (b"\x89PNG\r\n\x1a\n", Kind::Image(ImageFormat::Png)),
        (b"\xff\xd8\xff", Kind::Image(ImageFormat::Jpeg)),
        (b"GIF87a", Kind::Image(ImageFormat::Gif)),
        (b"GIF89a", Kind::Image(ImageFormat::Gif)),
        (b"II*\0", Kind::Image(ImageFormat::Tiff)),
        (b"MM\0*", Kind::Image(ImageFormat::Tiff)),
        (b"II+\0", Kind::Image(ImageFormat::Tiff)),
        (b"MM\0+", Kind::Image(ImageFormat::Tiff)),
        (b"PK\x03\x04", Kind::Zip),
        (b"PK\x05\x06", Kind::Zip),
        (b"\x1f\x8b", Kind::Gzip),
        (b"\xfd7zXZ\0", Kind::Xz),
        (b"\x28\xb5\x2f\xfd", Kind::Zstd),
        (b"BZh", Kind::Bzip2),
        (b"7z\xbc\xaf\x27\x1c", Kind::SevenZip),
        (b"Rar!\x1a\x07", Kind::Rar),
        (b"8BPS", Kind::OtherImage),
        (b"\xff\x0a", Kind::OtherImage),
        (b"\0\0\0\x0cJXL ", Kind::OtherImage),
        (b"\0\0\0\x0cjP  ", Kind::OtherImage),
    ];
    if head.is_empty() {
        return Kind::Empty;
    }
    if let Some(&(_, kind)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return kind;
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        return Kind::Image(ImageFormat::WebP);
    }
    if is_bmp(head) {
        return Kind::Image(ImageFormat::Bmp);
    }
    if is_tar(head) {
        return Kind::Tar;
    }
    if is_heif(head) { Kind::OtherImage } else { sniff_markup(head) }
}

/// Two letters alone would take texts for pictures, so the length of the header has to fit too.
fn is_bmp(head: &[u8]) -> bool {
    head.starts_with(b"BM")
        && matches!(head.get(14..18), Some(&[12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
}

/// The checksum is asked, not the letters `ustar`: old tars do not have them.
fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..HEAD_BYTES) else { return false };
    let digits: Vec<u8> = block[148..156]
        .iter()
        .copied()
        .skip_while(|&byte| byte == b' ')
        .take_while(|byte| (b'0'..=b'7').contains(byte))
        .collect();
    let declared = digits.iter().fold(0u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    let field: u32 = block[148..156].iter().map(|&byte| u32::from(byte)).sum();
    !digits.is_empty() && block[0] != 0 && declared == sum - field + 8 * u32::from(b' ')
}

/// HEIC and AVIF: an ISO media file whose brand is one of theirs.
fn is_heif(head: &[u8]) -> bool {
    const BRANDS: [&[u8]; 7] = [b"heic", b"heix", b"heif", b"mif1", b"msf1", b"avif", b"avis"];
    head.get(4..8) == Some(b"ftyp") && head.get(8..12).is_some_and(|brand| BRANDS.contains(&brand))
}

/// A web page, an XML error of a store, an SVG, or none of them.
fn sniff_markup(head: &[u8]) -> Kind {
    const PAGES: [&[u8]; 7] =
        [b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<error", b"<script"];
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let text = text.to_ascii_lowercase();
    if text.starts_with(b"<") && text.windows(4).any(|window| window == b"<svg") {
        return Kind::OtherImage;
    }
    if PAGES.iter().any(|page| text.starts_with(page)) { Kind::Html } else { Kind::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_bytes_decide() {
        assert_eq!(sniff(b""), Kind::Empty);
        assert_eq!(sniff(b"\xff\xd8\xff\xe0"), Kind::Image(ImageFormat::Jpeg));
        assert_eq!(sniff(b"RIFF\0\0\0\0WEBPVP8 "), Kind::Image(ImageFormat::WebP));
        assert_eq!(sniff(b"RIFF\0\0\0\0WAVEfmt "), Kind::Other);
        assert_eq!(sniff(b"PK\x05\x06"), Kind::Zip);
        assert_eq!(sniff(b"BMW makes motor cars and more"), Kind::Other);
        assert_eq!(sniff(b"\0\0\0\x18ftypheic"), Kind::OtherImage);
        assert_eq!(sniff(b"\0\0\0\x18ftypmp42"), Kind::Other);
    }

    #[test]
    fn pages_are_told_from_drawings() {
        assert_eq!(sniff(b"\xef\xbb\xbf\n <!DOCTYPE html><html>"), Kind::Html);
        assert_eq!(sniff(b"<?xml version='1.0'?><Error><Code>AccessDenied"), Kind::Html);
        assert_eq!(sniff(b"<?xml version='1.0'?><svg xmlns='x'>"), Kind::OtherImage);
        assert_eq!(sniff(b"plain text"), Kind::Other);
    }

    #[test]
    fn a_tar_is_known_by_its_checksum() {
        for header in [tar::Header::new_old(), tar::Header::new_gnu(), tar::Header::new_ustar()] {
            let mut header = header;
            header.set_path("a").unwrap();
            header.set_size(1);
            header.set_cksum();
            assert_eq!(sniff(header.as_bytes()), Kind::Tar);
            header.as_mut_bytes()[0] = b'b';
            assert_eq!(sniff(header.as_bytes()), Kind::Other);
        }
        assert_eq!(sniff(&[0; HEAD_BYTES]), Kind::Other);
    }
}
