//! Durations of RFC 5545, 3.3.6.

use crate::days::DAY_SECONDS;

/// Seconds of a duration such as PT1H30M, P1D or P2W; none for what is no duration, and for a
/// negative one. Days have 24 hours.
pub fn duration(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_uppercase();
    let text = text.strip_prefix('+').unwrap_or(&text).strip_prefix('P')?;
    let (mut seconds, mut number, mut any) = (0i64, None::<i64>, false);
    for character in text.chars() {
        let unit = match character {
            '0'..='9' => {
                let digit = i64::from(character as u8 - b'0');
                number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
                continue;
            }
            'T' if number.is_none() => continue,
            'W' => 7 * DAY_SECONDS,
            'D' => DAY_SECONDS,
            'H' => 3600,
            'M' => 60,
            'S' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.take()?.checked_mul(unit)?)?;
        any = true;
    }
    (any && number.is_none()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("PT1H30M", Some(5400)),
            ("P1DT1S", Some(86_401)),
            ("+P2W", Some(1_209_600)),
            ("P", None),
            ("PT", None),
            ("PT5", None),
            ("-PT5M", None),
            ("PT99999999999999999999H", None),
            ("PT9223372036854775807H", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
    }
}
