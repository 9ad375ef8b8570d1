//! Amounts with decimals, exactly: whole numbers, and where the point stands in them. Pure.

use walengine_net::model::SCALE_MAX;

/// An amount with `places` digits behind the point; without a point if that is 0.
pub fn shown(amount: u128, places: u8) -> String {
    let (digits, places) = (amount.to_string(), usize::from(places));
    if places == 0 {
        return digits;
    }
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, decimals) = digits.split_at(digits.len() - places);
    format!("{whole}.{decimals}")
}

/// `plus - minus`, which may be below zero, as [`shown`] shows it.
pub fn difference(plus: u128, minus: u128, places: u8) -> String {
    let sign = if plus < minus { "-" } else { "" };
    format!("{sign}{}", shown(plus.abs_diff(minus), places))
}

/// What [`shown`] shows, with fewer decimals if they are 0: `12`, `12.3` and `12.30` are 1230 at two places. `None` for
/// anything else, more decimals included, and for what does not fit into 128 bits.
pub fn read(text: &str, places: u8) -> Option<u128> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    let has_leading_zero = whole.len() > 1 && whole.starts_with('0');
    let is_wrong = whole.is_empty()
        || has_leading_zero
        || (decimals.is_empty() && text.contains('.'))
        || decimals.len() > usize::from(places)
        || places > SCALE_MAX
        || !is_plain(whole)
        || !is_plain(decimals);
    if is_wrong {
        return None;
    }
    format!("{whole}{decimals:0<width$}", width = usize::from(places)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again() {
        for amount in [0, 1, 9, 10, 99, 100, 1234, u128::MAX / 3, u128::MAX] {
            for places in 0..=SCALE_MAX {
                assert_eq!(read(&shown(amount, places), places), Some(amount), "{amount} {places}");
            }
        }
        assert_eq!(
            (shown(5, 2), shown(1234, 2), shown(7, 0)),
            ("0.05".into(), "12.34".into(), "7".into())
        );
        assert_eq!(["12", "12.3", "12.34"].map(|text| read(text, 2)), [1200, 1230, 1234].map(Some));
        for bad in ["", ".", "1.", ".5", "1.234", "-1", "+1", "01.00", "1e2", "1,5", " 1", "١"] {
            assert_eq!(read(bad, 2), None, "{bad}");
        }
        assert_eq!(read("3402823669209384634633746074317682114.56", 2), None, "past 128 bits");
    }
}
