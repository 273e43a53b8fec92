//! When a message was received, as servers write it: `17-Jul-1996 02:44:25 -0700`.

const MONTHS: [&[u8]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];

const DAY: i64 = 24 * 3600;

/// The time in milliseconds since 1970; nothing if it is none.
pub(super) fn read(text: &[u8]) -> Option<i64> {
    let mut parts = text.split(|b| *b == b' ').filter(|part| !part.is_empty());
    let (date, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
    let [day, month, year] = three(date, b'-')?;
    let [hour, minute, second] = three(time, b':')?.map(|part| number(part, 2));
    let (day, year) = (number(day, 2)?, number(year, 4)?);
    let month = month.to_ascii_lowercase();
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let (hour, minute, second) = (hour?, minute?, second?);
    let is_time = hour < 24 && minute < 60 && second <= 60;
    if !is_time || !(1..=31).contains(&day) || parts.next().is_some() {
        return None;
    }
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    Some((seconds - offset(zone)?) * 1000)
}

/// The time as a command has it, in UTC.
pub(super) fn write(milliseconds: i64) -> String {
    let seconds = milliseconds.div_euclid(1000);
    let (number, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = date_of(number);
    let name = String::from_utf8_lossy(MONTHS[month as usize - 1]);
    let name = name[..1].to_uppercase() + &name[1..];
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{day:02}-{name}-{year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

/// Year, month and day of a day, by the same calendar as [`days`].
fn date_of(number: i64) -> (i64, i64, i64) {
    let number = number + 719_468;
    let era = number.div_euclid(146_097);
    let of_era = number.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn three(text: &[u8], by: u8) -> Option<[&[u8]; 3]> {
    text.split(|b| *b == by).collect::<Vec<_>>().try_into().ok()
}

fn number(digits: &[u8], most: usize) -> Option<i64> {
    let fits = (1..=most).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    fits.then(|| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

/// Seconds east of Greenwich.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, digits) = zone.split_first()?;
    let (hours, minutes) = digits.split_at_checked(2)?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    let seconds = hours * 3600 + minutes * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// Days from the first of 1970 to a day of the Gregorian calendar. A year is counted from March on, so that its leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let cases = [
            ("01-Jan-1970 00:00:00 +0000", 0),
            (" 1-jan-1970 01:00:00 +0100", 0),
            ("17-Jul-1996 02:44:25 -0700", 837_596_665_000),
            ("29-Feb-2000 23:59:59 +0000", 951_868_799_000),
            ("31-Dec-1969 23:59:60 +0000", 0),
            ("30-Nov-2026 10:00:00 +0530", 1_796_013_000_000),
        ];
        for (text, wanted) in cases {
            assert_eq!(read(text.as_bytes()), Some(wanted), "{text}");
            assert_eq!(read(write(wanted).as_bytes()), Some(wanted), "{text}");
        }
        assert_eq!(write(837_596_665_999), "17-Jul-1996 09:44:25 +0000");
        for text in [
            "",
            "17-Jul-1996 02:44:25",
            "17-Jul-1996 02:44:25 0700",
            "17-Jul-1996 24:44:25 +0000",
            "32-Jul-1996 02:44:25 +0000",
            "17-Quz-1996 02:44:25 +0000",
            "17-Jul-1996 02:44 +0000",
            "17-Jul-199999 02:44:25 +0000",
            "17-Jul-1996 02:44:25 +0000 x",
            "-7-Jul-1996 02:44:25 +0000",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }

    /// Each day comes behind the one before, over a whole round of leap years.
    #[test]
    fn days_follow_each_other() {
        let mut last = days(1800, 1, 1) - 1;
        for year in 1800..2201 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in (1..).zip(lengths) {
                for day in 1..=length {
                    last += 1;
                    assert_eq!(days(year, month, day), last, "{year}-{month}-{day}");
                    assert_eq!(date_of(last), (year, month, day));
                }
            }
        }
    }
}
