//! Whose turn it is: influencers have theirs one after the other, by their ids, each with a share of what is done at a
//! time. However much is due at one of them, the others wait for that share alone.

use super::Done;
use crate::pg::error::Result;
use crate::pg::plan;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use std::cell::Cell;
use std::thread::LocalKey;

/// How many influencers have a turn in one step.
pub const MOST: usize = 20;

/// Influencers whose turn is next.
#[derive(Default)]
pub struct Found {
    pub influencers: Vec<Uuid>,
    /// The last one that was looked at; none where the round is through.
    pub reached: Option<Uuid>,
}

impl Found {
    /// The first ones of some, in order, each with whether it has anything to do; `is_all` where none comes after them.
    pub fn first(some: impl IntoIterator<Item = (Uuid, bool)>, is_all: bool) -> Self {
        let mut found = Self::default();
        for (influencer, is_due) in some {
            found.reached = Some(influencer);
            found.influencers.extend(is_due.then_some(influencer));
            if found.influencers.len() == MOST {
                return found;
            }
        }
        if is_all {
            found.reached = None;
        }
        found
    }
}

/// A kind of work that influencers take turns in.
pub struct Line {
    /// Finds who is next after an influencer.
    pub find: fn(Option<Uuid>, Option<TimestampWithTimeZone>) -> Result<Found>,
    /// Goes on with what is theirs.
    pub step: fn(&[Uuid], Option<TimestampWithTimeZone>) -> Result<Done>,
    /// Where this backend was the last time; a new one begins anywhere, so that calls of the server's that are
    /// too short for a round come to all.
    pub reached: &'static LocalKey<Cell<Reached>>,
}

#[derive(Clone, Copy)]
pub enum Reached {
    Unknown,
    Beginning,
    After(Uuid),
}

/// The turns of a line in one call.
pub struct Turns {
    line: &'static Line,
    /// Whether this call has seen the beginning of the round.
    is_whole: bool,
    /// Whether anything was gone on with in this round.
    has_moved: bool,
    is_done: bool,
}

impl Turns {
    pub fn of(line: &'static Line) -> Self {
        Self {
            line,
            is_whole: matches!(line.reached.get(), Reached::Beginning),
            has_moved: false,
            is_done: false,
        }
    }

    /// Whether nothing is left, or others have locked what is.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Lets those have their turn who are next; returns the sessions of which followers were told, and how many.
    pub fn step(&mut self, now: Option<TimestampWithTimeZone>) -> Result<Vec<(Uuid, i64)>> {
        let after = match self.line.reached.get() {
            Reached::Beginning => None,
            Reached::After(influencer) => Some(influencer),
            Reached::Unknown => plan::ask("select pg_catalog.gen_random_uuid()", &[])?,
        };
        let found = (self.line.find)(after, now)?;
        let done = match found.influencers.as_slice() {
            [] => Done::default(),
            some => (self.line.step)(some, now)?,
        };
        self.has_moved |= done.has_moved;
        match found.reached {
            Some(influencer) => self.line.reached.set(Reached::After(influencer)),
            None => {
                self.line.reached.set(Reached::Beginning);
                self.is_done = self.is_whole && !self.has_moved;
                (self.is_whole, self.has_moved) = (true, false);
            }
        }
        Ok(done.told)
    }
}
