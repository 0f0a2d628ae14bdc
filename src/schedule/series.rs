//! A schedule in time: its starts by the clock become moments, in order, with its exceptions.
//!
//! Moments and clock times are in microseconds since 2000-01-01, as PostgreSQL counts them;
//! clock times as if the clock were UTC's.

use super::EPOCH;
use super::fields::Length;
use crate::pg::time_zone::Zone;
use recurrence::daylight_saving::{Clock, TimeZone};
use recurrence::days::{DAY_SECONDS, EARLIEST};
use recurrence::expand::{Expansion, WORK};
use recurrence::order::InOrder;
use recurrence::rule::Rule;
use std::cmp::Reverse;
use std::rc::Rc;

const SECOND: i64 = 1_000_000;

/// What is different about one occurrence, or an occurrence that the rule does not have.
#[derive(Clone, Debug)]
pub struct Exception {
    pub kind: ExceptionKind,
    /// When the occurrence begins by the rule, in clock time; of an added one, its start.
    pub original: i64,
    /// Where it begins instead: the moment that was asked for, and what the clock showed then.
    pub start: Option<(i64, i64)>,
    pub length: Option<i64>,
    pub title: Option<Rc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionKind {
    Skip,
    Move,
    Add,
}

impl ExceptionKind {
    /// As a value of the enum `live_stream_exception` is called.
    pub fn label(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Move => "move",
            Self::Add => "add",
        }
    }

    /// None for what is no such value.
    pub fn named(label: &str) -> Option<Self> {
        let all = [Self::Skip, Self::Move, Self::Add];
        all.into_iter().find(|kind| kind.label() == label)
    }
}

impl Exception {
    /// True when the occurrence has another time, length or title than the rule gives it.
    pub fn is_other_than_usual(&self) -> bool {
        self.start.is_some() || self.title.is_some()
    }

    /// The occurrence, if it has a time of its own.
    fn placed(&self, zone: Zone, usual: Length) -> Option<Occurrence> {
        let original = moment_of(zone, self.original);
        let start = match (self.kind, self.start) {
            (ExceptionKind::Skip, _) | (ExceptionKind::Move, None) => return None,
            (ExceptionKind::Add, None) => original,
            (_, Some((moment, wall))) => kept(zone, moment, wall),
        };
        let end = match (self.length, usual) {
            (Some(length), _) | (None, Length::Elapsed(length)) => start + length,
            (None, Length::Clock(length)) => match moment_of(zone, wall_at(zone, start) + length) {
                end if end > start => end,
                _ => start + length,
            },
        };
        Some(Occurrence {
            start,
            end,
            original,
            original_wall: self.original,
            is_skipped: false,
            title: self.title.clone(),
        })
    }
}

/// One time that a schedule takes place; `end` is exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    pub start: i64,
    pub end: i64,
    /// When it begins by the rule, as a moment and in clock time: what tells it from the others.
    pub original: i64,
    pub original_wall: i64,
    pub is_skipped: bool,
    pub title: Option<Rc<str>>,
}

/// A schedule that can be expanded.
pub struct Series {
    /// The first start, in seconds of clock time since 1970-01-01, and the microseconds that
    /// every start has besides.
    pub first: i64,
    pub micros: i64,
    pub rule: Option<Rule>,
    pub length: Length,
    pub zone: Zone,
    /// Those that may matter, in the order of their originals, one for each.
    exceptions: Rc<[Exception]>,
    /// What its expansion may cost.
    work: u32,
}

impl Series {
    pub fn new(first: i64, micros: i64, rule: Option<Rule>, length: Length, zone: Zone) -> Self {
        Self {
            first,
            micros,
            rule,
            length,
            zone,
            exceptions: Rc::default(),
            work: WORK,
        }
    }

    /// With these exceptions, in the order of their originals, and no others.
    pub fn with(self, exceptions: Rc<[Exception]>) -> Self {
        Self { exceptions, ..self }
    }

    /// Gives up after so much work.
    pub fn at_most(self, work: u32) -> Self {
        Self { work, ..self }
    }

    /// The occurrences that end after a moment and begin before another, those that are skipped
    /// among them, in the order of their starts.
    pub fn between(self, after: i64, before: i64) -> Occurrences {
        let seconds = |moment: i64| moment.div_euclid(SECOND) + EPOCH;
        // No zone's clocks are a whole day from UTC.
        let from = seconds(after.saturating_sub(self.length.nominal()));
        let from = match &self.rule {
            Some(rule) if rule.is_dense() => self.wall_before(from, seconds(after)),
            _ => from - DAY_SECONDS - 1,
        };
        let last = seconds(before) + DAY_SECONDS + 1;
        let starts = match &self.rule {
            Some(rule) => {
                let starts = Expansion::new(rule, self.first, from.max(EARLIEST));
                Starts::Rule(Box::new(starts.until(last).within(self.work)))
            }
            None => Starts::Once(Some(self.first)),
        };
        let mut occurrences = Occurrences {
            starts: InOrder::new(starts),
            clock: Clock::of(self.zone),
            base: None,
            exceptional: Vec::new(),
            after,
            before,
            micros: self.micros,
            length: self.length,
            zone: self.zone,
            exceptions: self.exceptions,
        };
        occurrences.place_exceptions();
        occurrences
    }

    /// A clock time that all starts at or after a moment have, and not much earlier than theirs
    /// unless clocks change up to another moment or have done so lately.
    fn wall_before(&self, moment: i64, until: i64) -> i64 {
        let around = (moment - 2 * DAY_SECONDS, until + 2 * DAY_SECONDS);
        match self.zone.offsets(around.0, around.1)[..] {
            [(_, offset)] => moment + offset - 1,
            _ => moment - DAY_SECONDS - 1,
        }
    }

    /// The occurrence that is told from the others by a clock time, with its exception if it has
    /// one; none if it does not take place.
    pub fn occurrence_at(&self, wall: i64, exception: Option<&Exception>) -> Option<Occurrence> {
        if exception.is_some_and(|one| one.kind == ExceptionKind::Skip) {
            return None;
        }
        if let Some(placed) = exception.and_then(|one| one.placed(self.zone, self.length)) {
            return Some(placed);
        }
        let start = self.start_at(wall)?;
        let mut one = Exception {
            kind: ExceptionKind::Add,
            original: wall,
            start: None,
            length: None,
            title: exception.and_then(|one| one.title.clone()),
        }
        .placed(self.zone, self.length)?;
        if let Length::Clock(length) = self.length {
            // As of an occurrence of the rule, also where clocks skip its start.
            let end = moment_of(self.zone, wall + length);
            one.end = if end > start { end } else { start + length };
        }
        Some(one)
    }

    /// What one look for a start costs, apart from how far it is.
    pub fn cost_of_look(&self) -> u32 {
        let starts = |rule| Expansion::new(rule, self.first, self.first).spent();
        1 + self.rule.as_ref().map_or(0, starts)
    }

    /// The start, as a moment, of the occurrence that the rule has at a clock time.
    pub fn start_at(&self, wall: i64) -> Option<i64> {
        let (seconds, micros) = (wall.div_euclid(SECOND) + EPOCH, wall.rem_euclid(SECOND));
        let found = match &self.rule {
            Some(rule) => Expansion::new(rule, self.first, seconds).next() == Some(seconds),
            None => self.first == seconds,
        };
        let (moment, _) = Clock::of(self.zone).moment(seconds);
        (found && micros == self.micros).then_some((moment - EPOCH) * SECOND + micros)
    }

    /// The clock time of the occurrence that the rule has at a moment.
    pub fn wall_of_start(&self, moment: i64) -> Option<i64> {
        let seconds = moment.div_euclid(SECOND) + EPOCH;
        if moment.rem_euclid(SECOND) != self.micros
            || !(-200_000_000_000..300_000_000_000).contains(&seconds)
        {
            return None;
        }
        let mut clock = Clock::of(self.zone);
        // A start that the clocks skip is at a moment for which they show a later time.
        let last = self.zone.wall(seconds);
        let from = last - DAY_SECONDS - 1;
        let wall = match &self.rule {
            Some(rule) => Expansion::new(rule, self.first, from)
                .take_while(|wall| *wall <= last)
                .filter(|wall| clock.moment(*wall).0 == seconds)
                .last(),
            None => Some(self.first).filter(|wall| clock.moment(*wall).0 == seconds),
        };
        wall.map(|wall| (wall - EPOCH) * SECOND + self.micros)
    }
}

/// The exception of the occurrence that a clock time names, of those in order.
pub fn exception_at(exceptions: &[Exception], wall: i64) -> Option<&Exception> {
    let place = exceptions.binary_search_by_key(&wall, |exception| exception.original);
    place.ok().and_then(|place| exceptions.get(place))
}

/// What a zone's clocks show at a moment.
pub fn wall_at(zone: Zone, moment: i64) -> i64 {
    let seconds = moment.div_euclid(SECOND);
    (zone.wall(seconds + EPOCH) - EPOCH) * SECOND + moment.rem_euclid(SECOND)
}

/// The moment at which a zone's clocks show a time.
pub fn moment_of(zone: Zone, wall: i64) -> i64 {
    let (moment, _) = Clock::of(zone).moment(wall.div_euclid(SECOND) + EPOCH);
    (moment - EPOCH) * SECOND + wall.rem_euclid(SECOND)
}

/// The moment that was asked for while the clocks still show then what they were to show, and
/// else when they show it now: the rules of the zone have changed.
fn kept(zone: Zone, moment: i64, wall: i64) -> i64 {
    if wall_at(zone, moment) == wall {
        moment
    } else {
        moment_of(zone, wall)
    }
}

enum Starts {
    Once(Option<i64>),
    Rule(Box<Expansion>),
}

impl Iterator for Starts {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        match self {
            Self::Once(start) => start.take(),
            Self::Rule(expansion) => expansion.next(),
        }
    }
}

/// The occurrences of a series from some moment on.
pub struct Occurrences {
    starts: InOrder<Starts>,
    clock: Clock<Zone>,
    /// The next occurrence of the rule.
    base: Option<Occurrence>,
    /// Moved and added ones, the first one last.
    exceptional: Vec<Occurrence>,
    after: i64,
    before: i64,
    micros: i64,
    length: Length,
    zone: Zone,
    exceptions: Rc<[Exception]>,
}

impl Occurrences {
    /// What the rule's expansion has cost so far.
    pub fn spent(&self) -> u32 {
        match self.starts.starts() {
            Starts::Rule(expansion) => expansion.spent(),
            Starts::Once(_) => 0,
        }
    }

    /// True when the rule took too long to expand, and more may come that nobody looked for.
    pub fn gave_up(&self) -> bool {
        matches!(self.starts.starts(), Starts::Rule(expansion) if expansion.is_exhausted())
    }

    /// Works out those exceptions that have a time of their own.
    fn place_exceptions(&mut self) {
        for exception in self.exceptions.iter() {
            if let Some(placed) = exception.placed(self.zone, self.length)
                && placed.end > self.after
                && placed.start < self.before
            {
                self.exceptional.push(placed);
            }
        }
        self.exceptional
            .sort_by_key(|one| Reverse((one.start, one.original_wall)));
    }

    #[inline]
    fn next_of_rule(&mut self) -> Option<Occurrence> {
        loop {
            let (start, wall) = self.starts.next(|wall| self.clock.moment(wall))?;
            let start = (start - EPOCH) * SECOND + self.micros;
            if start >= self.before {
                return None;
            }
            let end = match self.length {
                Length::Elapsed(length) => start + length,
                Length::Clock(length) => {
                    let end = wall * SECOND + self.micros + length;
                    let (moment, _) = self.clock.moment(end.div_euclid(SECOND));
                    let end = (moment - EPOCH) * SECOND + end.rem_euclid(SECOND);
                    // A start that clocks skip is after an end soon after it.
                    if end > start { end } else { start + length }
                }
            };
            let mut one = Occurrence {
                start,
                end,
                original: start,
                original_wall: (wall - EPOCH) * SECOND + self.micros,
                is_skipped: false,
                title: None,
            };
            if !self.exceptions.is_empty() && !self.apply(&mut one) {
                continue;
            }
            if one.end > self.after {
                return Some(one);
            }
        }
    }

    /// False where an occurrence of the rule takes place at another time.
    fn apply(&self, one: &mut Occurrence) -> bool {
        let Some(exception) = exception_at(&self.exceptions, one.original_wall) else {
            return true;
        };
        match exception.kind {
            ExceptionKind::Skip => one.is_skipped = true,
            _ if exception.start.is_some() => return false,
            ExceptionKind::Add => return false,
            ExceptionKind::Move => one.title = exception.title.clone(),
        }
        true
    }
}

impl Iterator for Occurrences {
    type Item = Occurrence;

    #[inline]
    fn next(&mut self) -> Option<Occurrence> {
        if self.exceptional.is_empty() {
            return self.base.take().or_else(|| self.next_of_rule());
        }
        if self.base.is_none() {
            self.base = self.next_of_rule();
        }
        match (&self.base, self.exceptional.last()) {
            (Some(base), Some(other))
                if (base.start, base.original_wall) < (other.start, other.original_wall) =>
            {
                self.base.take()
            }
            _ => self.exceptional.pop(),
        }
    }
}
