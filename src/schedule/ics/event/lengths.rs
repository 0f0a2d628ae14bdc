//! Days of a DURATION are days by the clocks (RFC 5545, 3.3.6), a schedule lasts minutes: where the clocks are changed,
//! occurrences end at a moment of their own.

use super::exceptions::{Exception, MAX_SECONDS};
use super::range::Piece;
use super::zones::AHEAD;
use super::{Events, Zones};
use crate::schedule::series::ExceptionKind;
use recurrence::daylight_saving::{Clock, TimeZone};
use recurrence::days::DAY_SECONDS;
use recurrence::expand::{self, Expansion};
use recurrence::ics::duration::Duration;
use recurrence::rule::{End, Rule};
use recurrence::stamp::stamp;
use std::collections::btree_map::Entry;

/// How many occurrences have an end of their own, of all events together.
const MAX_ALTERED: usize = 10_000;
/// How many exceptions a schedule has after which no more of them are made.
const MAX_OF_SCHEDULE: usize = 500;
/// What is looked at for them around one change, as [`Expansion::spent`] counts.
const WORK: u32 = 50_000;

/// The end of what begins at a moment, where it is not as long as usual; an error where it is longer than a schedule's may be.
fn own_end(nominal: Duration, start: i64, zone: &impl TimeZone) -> Result<Option<i64>, ()> {
    let end = nominal.end(start, zone);
    match end - start {
        seconds if seconds == nominal.usual_seconds() => Ok(None),
        1..=MAX_SECONDS => Ok(Some(end)),
        _ => Err(()),
    }
}

impl<Z: Zones> Events<'_, Z> {
    /// Gives the occurrences of a schedule that a change of the clocks makes longer or shorter their ends; adds to `notes`
    /// what is not done.
    pub(super) fn lengths(&mut self, piece: &mut Piece<Z::Zone>, notes: &mut Vec<String>) {
        let planned = &piece.planned;
        let Some(nominal) = planned.nominal else {
            return;
        };
        let zone = planned.start.zone;
        let mut longer = None;
        for (moment, one) in &mut piece.exceptions {
            let start = match one.times {
                _ if one.kind == ExceptionKind::Skip => continue,
                Some((_, Some(_))) => continue,
                Some((start, None)) => start,
                None => *moment,
            };
            match own_end(nominal, start, &zone) {
                Ok(None) => {}
                Ok(end) => one.times = Some((start, end)),
                Err(()) => longer = longer.or(Some(start)),
            }
        }
        if let Some(rule) = &planned.rule {
            let first = planned.start.wall;
            let last = expand::bounds(rule, first).map_or(None, |(_, last)| last);
            let rule = Rule {
                end: last.map_or(End::Never, End::Until),
                ..rule.clone()
            };
            let begin = planned.start.moment();
            let ahead = self.zones.now().max(begin).saturating_add(AHEAD);
            let to = last.map_or(ahead, |last| {
                ahead.min(last.saturating_add(2 * DAY_SECONDS))
            });
            let offsets = zone.offsets(begin, to.saturating_add(MAX_SECONDS));
            let mut clock = Clock::of(zone);
            let mut until = (to == ahead && zone.offset_at(to).until.is_some()).then_some(to);
            'changes: for (change, _) in offsets.iter().skip(1) {
                let wall = zone.wall(*change);
                let from = wall - nominal.usual_seconds() - DAY_SECONDS;
                let mut starts = Expansion::new(&rule, first, from.max(first))
                    .within(WORK)
                    .until(wall + DAY_SECONDS);
                for start in starts.by_ref() {
                    let moment = clock.moment(start).0;
                    match own_end(nominal, moment, &zone) {
                        Ok(None) => {}
                        Err(()) => longer = longer.or(Some(moment)),
                        Ok(end) => {
                            let count = piece.exceptions.len();
                            if let Entry::Vacant(place) = piece.exceptions.entry(moment) {
                                if self.altered == MAX_ALTERED || count >= MAX_OF_SCHEDULE {
                                    until = Some(moment);
                                    break 'changes;
                                }
                                self.altered += 1;
                                place.insert(Exception {
                                    kind: ExceptionKind::Move,
                                    times: Some((moment, end)),
                                    title: None,
                                });
                            }
                        }
                    }
                }
                if starts.is_exhausted() {
                    until = Some(*change);
                    break;
                }
            }
            if let Some(until) = until {
                let until = stamp(until);
                notes.push(format!("days of DURATION are 24 hours from {until:.8} on"));
            }
        }
        if let Some(longer) = longer {
            let longer = stamp(longer);
            notes.push(format!(
                "what begins at {longer}Z lasts more than a week and is cut"
            ));
        }
    }
}
