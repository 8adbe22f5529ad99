//! Values as people write them: each reader takes trimmed text, and gives `None` for what is not
//! allowed.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;

use crate::data::Cond;

pub(super) fn set<T>(field: &mut T, value: Option<T>) -> Option<()> {
    *field = value?;
    Some(())
}

/// As [`set`]; `auto` makes the field absent.
pub(super) fn set_or_auto<T>(
    field: &mut Option<T>,
    text: &str,
    parse: fn(&str) -> Option<T>,
) -> Option<()> {
    let value = if text.eq_ignore_ascii_case("auto") { None } else { Some(parse(text)?) };
    *field = value;
    Some(())
}

pub(super) fn real(text: &str, min: f64, max: f64) -> Option<f64> {
    let number = text.parse::<f64>().ok()? + 0.0; // -0 becomes 0
    (min..=max).contains(&number).then_some(number)
}

/// Reads `64`, and `64.0` and `6.4e1` as well, since forms send whole numbers in these ways.
pub(super) fn whole(text: &str, min: u64, max: u64) -> Option<u64> {
    let exact = text.parse::<u64>().ok();
    let number = exact.or_else(|| {
        let number = real(text, 0.0, 9_007_199_254_740_992.0)?; // 2^53
        (number.fract() == 0.0).then_some(number as u64)
    })?;
    (min..=max).contains(&number).then_some(number)
}

pub(super) fn size(text: &str, min: u64, max: u64) -> Option<usize> {
    whole(text, min, max)?.try_into().ok()
}

pub(super) fn power_of_two(text: &str, min: u64, max: u64) -> Option<usize> {
    size(text, min, max).filter(|size| size.is_power_of_two())
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A variant of an enum by its serde name.
pub(super) fn choice<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    let text = text.to_ascii_lowercase();
    let deserializer = IntoDeserializer::<ValueError>::into_deserializer(text.as_str());
    T::deserialize(deserializer).ok()
}

pub(super) fn cond(text: &str) -> Option<Cond> {
    match boolean(text) {
        Some(true) => Some(Cond::Auto),
        Some(false) => Some(Cond::Off),
        None => choice(text),
    }
}

pub(super) fn color(text: &str) -> Option<[u8; 3]> {
    match text.to_ascii_lowercase().as_str() {
        "white" => Some([255; 3]),
        "black" => Some([0; 3]),
        text => {
            let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
            if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None; // `from_str_radix` would also take a sign
            }
            let [_, r, g, b] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
            Some([r, g, b])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::table::Aug;

    #[test]
    fn numbers() {
        assert_eq!(real("0.3", 0.0, 1.0), Some(0.3));
        assert_eq!(real("1e-1", 0.0, 1.0), Some(0.1));
        assert!(real("-0.0", 0.0, 1.0).unwrap().is_sign_positive());
        for text in ["NaN", "nan", "inf", "-inf", "1e999", "1,5", "0x1", "", "1 2", "1_0", "٣"] {
            assert_eq!(real(text, 0.0, 1e300), None, "{text}");
        }
        assert_eq!(whole("64.0", 0, 100), Some(64));
        assert_eq!(whole("-0", 0, 100), Some(0));
        for text in ["64.5", "-1", "1e300", "18446744073709551616", "101"] {
            assert_eq!(whole(text, 0, 100), None, "{text}");
        }
        assert_eq!(power_of_two("96", 8, 1024), None);
        assert_eq!(power_of_two("4", 8, 1024), None);
        assert_eq!(power_of_two("1024", 8, 1024), Some(1024));
    }

    #[test]
    fn words() {
        assert_eq!(boolean("True"), Some(true));
        assert_eq!(boolean("0"), Some(false));
        assert_eq!(boolean("yes"), None);
        assert_eq!(choice("NoAug"), Some(Aug::NoAug));
        assert_eq!(choice::<Aug>("ad"), None);
        assert_eq!(cond("true"), Some(Cond::Auto));
        assert_eq!(cond("folders"), Some(Cond::Folders));
    }

    #[test]
    fn colors() {
        assert_eq!(color("White"), Some([255, 255, 255]));
        assert_eq!(color("#0a0B0c"), Some([10, 11, 12]));
        for text in ["#fff", "ffffff", "#+fffff", "#12345g", "#éééé", "red"] {
            assert_eq!(color(text), None, "{text}");
        }
    }
}
