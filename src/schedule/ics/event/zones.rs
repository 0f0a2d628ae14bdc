//! The zone of a name in a calendar: one that the server has, by its name or by what the calendar says of it.

use super::{Events, Named};
use recurrence::daylight_saving::TimeZone;
use recurrence::days::DAY_SECONDS;
use recurrence::ics::calendar::{InvalidCalendar, ZoneText};
use recurrence::ics::observances::{Observances, Offsets};
use recurrence::ics::text::unescape;
use recurrence::ics::windows;
use std::collections::{BTreeSet, HashMap};

/// Of all events together.
pub const MAX_ZONES: usize = 100;

/// How often offsets of zones are compared, of all events together.
const MAX_COMPARED: usize = 200_000;

/// How far ahead a zone must have the offsets that the calendar gives it, for what does not end.
pub const AHEAD: i64 = 5 * 366 * DAY_SECONDS;

/// Where the zones of names come from.
pub trait Zones {
    type Zone: TimeZone + Copy;
    /// What keeps the whole calendar from being read.
    type Error: From<InvalidCalendar>;

    /// The zone of an IANA name, and how that name is spelt; none for a name that is not known.
    fn named(&self, name: &str) -> Result<Option<Named<Self::Zone>>, Self::Error>;

    /// The names of the zones that are so many seconds ahead of UTC now.
    fn ahead_of_utc(&self, seconds: i64) -> Result<Vec<String>, Self::Error>;

    /// The moment that it is, in seconds of Unix time.
    fn now(&self) -> i64;
}

/// What is known of a name.
pub struct Found<Z> {
    /// The zone that has it.
    named: Option<Named<Z>>,
    /// The calendar says something of the zone.
    is_described: bool,
    /// What it says, where that is understood.
    said: Option<Observances>,
    /// Zones that were like that for some event.
    alike: Vec<Named<Z>>,
}

/// What is known of the names in the calendar, and what may be.
pub struct Names<Z> {
    /// By the place of the VCALENDAR.
    found: HashMap<(usize, String), Found<Z>>,
    /// The names of zones by how far they are ahead of UTC now.
    ahead: HashMap<i64, Vec<String>>,
    compared: usize,
    /// What is not understood of the zones of an event: sentences.
    pub doubts: BTreeSet<String>,
}

impl<Z> Default for Names<Z> {
    fn default() -> Self {
        Self {
            found: HashMap::new(),
            ahead: HashMap::new(),
            compared: 0,
            doubts: BTreeSet::new(),
        }
    }
}

/// The zone of a name, as far as it is known.
pub enum Known<Z> {
    Zone(Named<Z>),
    /// Only what counts in the time that was asked for.
    Offsets(Offsets),
    Unknown,
}

impl<Z: Zones> Events<'_, Z> {
    /// The zone of a name in the VCALENDAR `part`, right from the clock time `from` to `to`; without that, for ever.
    pub(super) fn zone(
        &mut self,
        part: usize,
        name: &str,
        (from, to): (i64, Option<i64>),
    ) -> Result<Known<Z::Zone>, Z::Error> {
        let key = (part, name.to_owned());
        if !self.names.found.contains_key(&key) {
            if self.names.found.len() == MAX_ZONES {
                return Err(InvalidCalendar("the calendar has too many time zones").into());
            }
            let found = self.look_up(part, name)?;
            self.names.found.insert(key.clone(), found);
        }
        let Some(mut found) = self.names.found.remove(&key) else {
            return Ok(Known::Unknown);
        };
        let known = self.known(name, &mut found, (from, to));
        self.names.found.insert(key, found);
        known
    }

    fn look_up(&self, part: usize, name: &str) -> Result<Found<Z::Zone>, Z::Error> {
        let texts = self.calendar.parts.get(part).map(|part| &part.zones);
        // Some programs escape the name beside a time too.
        let text: Option<&ZoneText> =
            texts.and_then(|texts| texts.get(name).or_else(|| texts.get(unescape(name).trim())));
        let location = text.and_then(|text| text.location.as_deref());
        let candidates = [Some(name), location].into_iter().flatten();
        let mut named = None;
        for candidate in candidates.chain(windows::iana_names(name)) {
            named =
                named.map_or_else(|| by_name(&self.zones, candidate), |named| Ok(Some(named)))?;
        }
        Ok(Found {
            named,
            is_described: text.is_some(),
            said: text.and_then(ZoneText::observances),
            alike: Vec::new(),
        })
    }

    fn known(
        &mut self,
        name: &str,
        found: &mut Found<Z::Zone>,
        (from, to): (i64, Option<i64>),
    ) -> Result<Known<Z::Zone>, Z::Error> {
        let from = from.saturating_sub(2 * DAY_SECONDS);
        let ahead = self.zones.now().max(from).saturating_add(AHEAD);
        let to = to.map_or(ahead, |to| ahead.min(to.saturating_add(2 * DAY_SECONDS)));
        let said = found.said.as_ref().and_then(|said| said.between(from, to));
        let Some(said) = said else {
            // Only what nobody has described is taken by the places in its name.
            let known = match &found.named {
                Some(named) => Some(named.clone()),
                None => self.shown(name, (from, to))?,
            };
            if found.is_described
                && found
                    .named
                    .as_ref()
                    .is_none_or(|(name, _)| !name.contains('/'))
            {
                self.names
                    .doubts
                    .insert(format!("VTIMEZONE {name:.60} is not understood"));
            }
            return Ok(known.map_or(Known::Unknown, Known::Zone));
        };
        // A bare name such as EST is not only the server's; a place is a place.
        if let Some(named) = &found.named
            && (named.0.contains('/') || said.are_those_of(&named.1, to))
        {
            return Ok(Known::Zone(named.clone()));
        }
        if let Some(alike) = found.alike.iter().find(|one| said.are_those_of(&one.1, to)) {
            return Ok(Known::Zone(alike.clone()));
        }
        let now = self.zones.now();
        let today = found
            .said
            .as_ref()
            .and_then(|said| said.between(now, now + 1));
        let today = today.map_or(0, |today| today.seconds_at(now));
        if let Some(alike) = self.alike(name, &said, to, today)? {
            found.alike.push(alike.clone());
            return Ok(Known::Zone(alike));
        }
        Ok(Known::Offsets(said))
    }

    /// A zone of the server's with these offsets, and now that of `today`.
    fn alike(
        &mut self,
        name: &str,
        said: &Offsets,
        to: i64,
        today: i64,
    ) -> Result<Option<Named<Z::Zone>>, Z::Error> {
        let fixed = said.only().and_then(fixed_zone);
        let (_, shown) = windows::shown_names(name);
        let listed = windows::zones().flat_map(|(_, names)| names.take(1).map(str::to_owned));
        for name in fixed.into_iter().chain(shown).chain(listed) {
            if let Some(found) = self.compared(&name, said, to)? {
                return Ok(Some(found));
            }
        }
        if !self.names.ahead.contains_key(&today) {
            let names = self.zones.ahead_of_utc(today)?;
            self.names.ahead.insert(today, names);
        }
        let others = self.names.ahead.get(&today).cloned().unwrap_or_default();
        for name in others {
            if let Some(found) = self.compared(&name, said, to)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn compared(
        &mut self,
        name: &str,
        said: &Offsets,
        to: i64,
    ) -> Result<Option<Named<Z::Zone>>, Z::Error> {
        self.names.compared += 1;
        if self.names.compared > MAX_COMPARED {
            return Ok(None);
        }
        let found = self.zones.named(name)?;
        Ok(found.filter(|found| said.are_those_of(&found.1, to)))
    }

    /// The zone of a name as people are shown it, where all places in it that are known have the same clocks.
    fn shown(
        &self,
        name: &str,
        (from, to): (i64, i64),
    ) -> Result<Option<Named<Z::Zone>>, Z::Error> {
        if let Some(name) = windows::fixed_offset(name).and_then(fixed_zone) {
            return self.zones.named(&name);
        }
        let (offset, names) = windows::shown_names(name);
        let Some(offset) = offset else {
            return Ok(None);
        };
        let mut found: Option<Named<Z::Zone>> = None;
        for name in names {
            let Some(one) = self.zones.named(&name)? else {
                continue;
            };
            let offsets = one.1.offsets(from, to);
            // It says what counts in winter.
            if offsets.iter().all(|(_, seconds)| *seconds != offset) {
                continue;
            }
            match &found {
                Some(first) if first.1.offsets(from, to) != offsets => return Ok(None),
                Some(_) => {}
                None => found = Some(one),
            }
        }
        Ok(found)
    }
}

/// The zone that is always so many seconds ahead of UTC, in whole hours: their names have the sign the other way round.
fn fixed_zone(seconds: i64) -> Option<String> {
    match seconds / 3600 {
        _ if seconds % 3600 != 0 => None,
        0 => Some("UTC".to_owned()),
        hours @ -12..0 => Some(format!("Etc/GMT+{}", -hours)),
        hours @ 1..=14 => Some(format!("Etc/GMT-{hours}")),
        _ => None,
    }
}

/// The zone of a name, or of its end: /citadel.org/20070227_1/Europe/Berlin is
/// Europe/Berlin.
fn by_name<Z: Zones>(zones: &Z, name: &str) -> Result<Option<Named<Z::Zone>>, Z::Error> {
    const MAX_PARTS: usize = 3;
    let begins = name.rmatch_indices('/').map(|(at, _)| at + 1);
    let mut begins: Vec<usize> = begins.take(MAX_PARTS).collect();
    if begins.len() < MAX_PARTS {
        begins.push(0);
    }
    for begin in begins.into_iter().rev() {
        if let Some(found) = zones.named(&name[begin..])? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
