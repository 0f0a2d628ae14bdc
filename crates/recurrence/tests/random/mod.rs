//! Random rules, the same for the same seed.

/// Sebastiano Vigna's SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to a number, which is excluded.
    pub fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// From `least` to `most`, or also from the end.
    fn number(&mut self, least: i64, most: i64, from_end: bool) -> i64 {
        let number = least + self.below((most - least + 1) as u64) as i64;
        // The ends of a range are where mistakes are.
        let number = match self.below(4) {
            0 => [least, most, most - 1][self.below(3) as usize],
            _ => number,
        };
        if from_end && self.percent(40) {
            -number
        } else {
            number
        }
    }

    fn list(&mut self, most: u64, mut item: impl FnMut(&mut Self) -> String) -> String {
        let count = 1 + self.below(most);
        let items: Vec<String> = (0..count).map(|_| item(self)).collect();
        items.join(",")
    }

    /// A rule that RFC 5545 allows.
    pub fn rule(&mut self) -> String {
        const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
        let freq = self.one_of(&[
            "YEARLY", "YEARLY", "YEARLY", "MONTHLY", "MONTHLY", "MONTHLY", "WEEKLY", "WEEKLY",
            "DAILY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY",
        ]);
        let mut parts = vec![format!("FREQ={freq}")];
        let mut weeks = false;
        let numbers = [
            ("BYMONTH", 25, 1, 12, false),
            ("BYWEEKNO", 20, 1, 53, true),
            ("BYYEARDAY", 15, 1, 366, true),
            ("BYMONTHDAY", 25, 1, 31, true),
            ("BYHOUR", 15, 0, 23, false),
            ("BYMINUTE", 15, 0, 59, false),
            ("BYSECOND", 10, 0, 59, false),
        ];
        for (name, chance, least, most, from_end) in numbers {
            let allowed = match name {
                "BYWEEKNO" => freq == "YEARLY",
                "BYYEARDAY" => !matches!(freq, "MONTHLY" | "WEEKLY" | "DAILY"),
                "BYMONTHDAY" => freq != "WEEKLY",
                _ => true,
            };
            if allowed && self.percent(chance) {
                weeks |= name == "BYWEEKNO";
                let list = self.list(6, |random| random.number(least, most, from_end).to_string());
                parts.push(format!("{name}={list}"));
            }
        }
        let months = parts.iter().any(|part| part.starts_with("BYMONTH="));
        if self.percent(35) {
            let numbered = matches!(freq, "YEARLY" | "MONTHLY") && !weeks && self.percent(50);
            let most = if freq == "YEARLY" && !months { 53 } else { 5 };
            let list = self.list(4, |random| {
                let day = random.one_of(&WEEKDAYS);
                match numbered {
                    true => format!("{}{day}", random.number(1, most, true)),
                    false => day.to_owned(),
                }
            });
            parts.push(format!("BYDAY={list}"));
        }
        if parts.len() > 1 && self.percent(25) {
            let most = [3, 10, 366][self.below(3) as usize];
            let list = self.list(3, |random| random.number(1, most, true).to_string());
            parts.push(format!("BYSETPOS={list}"));
        }
        if self.percent(50) {
            parts.push(format!("INTERVAL={}", self.number(1, 12, false)));
        }
        if self.percent(30) {
            parts.push(format!("WKST={}", self.one_of(&WEEKDAYS)));
        }
        match self.below(5) {
            0 => parts.push(format!("COUNT={}", self.number(1, 300, false))),
            1 => {
                let utc = if self.percent(50) { "Z" } else { "" };
                let year = self.number(1970, 2100, false);
                parts.push(format!("UNTIL={year}0228T235959{utc}"));
            }
            _ => {}
        }
        parts.join(";")
    }

    /// A first start in the years 1970 to 2069, and now and then near an end of the calendar.
    pub fn first(&mut self) -> i64 {
        use recurrence::days::{EARLIEST, LATEST};
        const CENTURY: i64 = 3_155_673_600;
        let offset = self.below(CENTURY as u64) as i64;
        match self.below(20) {
            0 => EARLIEST + offset,
            1 => LATEST - offset,
            _ => offset,
        }
    }
}
