//! The most viewers at the same time, from joins and leaves that arrive out of order.
//!
//! Transactions that overlap commit in another order than their events happened. The timeline
//! keeps the events of the last seconds in the order of time, so that one that comes late takes
//! its place among them; what is older is summed up. An event from before that makes the peak
//! doubtful: the rows must be asked.

/// How far back events are kept, in microseconds.
const WINDOW: i64 = 2_000_000;

/// What one statement changed: `viewers` in all, `peak` on the way, from `since` to `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub since: i64,
    pub at: i64,
    pub viewers: i64,
    pub peak: i64,
}

#[derive(Clone, Debug)]
pub struct Timeline {
    /// Nothing before this time is known one by one.
    from: i64,
    level: i64,
    peak: i64,
    events: Vec<Event>,
    pub doubtful: bool,
}

impl Timeline {
    /// A session with `level` viewers at the time `from`, and `peak` until then.
    pub fn new(from: i64, level: i64, peak: i64) -> Self {
        Self {
            from,
            level,
            peak,
            events: Vec::new(),
            doubtful: false,
        }
    }

    /// Takes in events, in any order.
    pub fn extend(&mut self, events: impl IntoIterator<Item = Event>) {
        let known = self.events.len();
        self.events.extend(
            events
                .into_iter()
                .filter(|event| event.viewers != 0 || event.peak != 0),
        );
        if self.events.len() == known {
            return;
        }
        self.events.sort_by_key(|event| event.at);
        let mut last = self.from;
        for event in &self.events {
            // What a statement did one by one is not known in the order of the others.
            if event.since <= last {
                self.doubtful |= event.since < self.from || event.since < event.at;
            }
            last = event.at;
        }
    }

    /// The number of viewers now, and the most so far.
    pub fn now(&self) -> (i64, i64) {
        walk(self.level, self.peak, &self.events)
    }

    /// Sums up what is older than the window.
    pub fn trim(&mut self) {
        let Some(newest) = self.events.last().map(|event| event.at) else {
            return;
        };
        let old = self
            .events
            .partition_point(|event| event.at < newest.saturating_sub(WINDOW));
        if let Some(last) = old.checked_sub(1) {
            self.from = self.events[last].at;
            (self.level, self.peak) = walk(self.level, self.peak, &self.events[..old]);
            self.events.drain(..old);
        }
    }
}

/// Events of the same moment are one: whoever leaves then does not meet who comes.
fn walk(mut level: i64, mut peak: i64, events: &[Event]) -> (i64, i64) {
    for moment in events.chunk_by(|a, b| a.at == b.at) {
        for event in moment.iter().filter(|event| event.since < event.at) {
            peak = peak.max(level + event.peak);
        }
        level += moment.iter().map(|event| event.viewers).sum::<i64>();
        peak = peak.max(level);
    }
    (level, peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(at: i64, viewers: i64) -> Event {
        Event {
            since: at,
            at,
            viewers,
            peak: viewers.max(0),
        }
    }

    /// A small generator, so that a failure can be seen again.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn order_of_arrival_does_not_matter() {
        for seed in 1..200 {
            let mut state = seed;
            let mut level = 0;
            let mut events: Vec<Event> = (0..300)
                .map(|step| {
                    let change = if level > 0 && random(&mut state).is_multiple_of(2) {
                        -1
                    } else {
                        1
                    };
                    level += change;
                    single(1_000 + step, change)
                })
                .collect();
            let truth = walk(0, 0, &events);
            for i in (1..events.len()).rev() {
                let swap = i.saturating_sub(random(&mut state) as usize % 20);
                events.swap(i, swap);
            }
            let mut timeline = Timeline::new(0, 0, 0);
            for batch in events.chunks(7) {
                timeline.extend(batch.iter().copied());
                timeline.trim();
            }
            assert_eq!(timeline.now(), truth, "seed {seed}");
            assert!(!timeline.doubtful, "seed {seed}");
        }
    }

    #[test]
    fn a_late_leave_lowers_what_was_too_high() {
        let mut timeline = Timeline::new(0, 1, 1);
        timeline.extend([single(20, 1)]);
        assert_eq!(timeline.now(), (2, 2));
        timeline.extend([single(10, -1)]);
        assert_eq!(timeline.now(), (1, 1));
    }

    #[test]
    fn what_is_older_than_the_window_is_in_doubt() {
        let mut timeline = Timeline::new(0, 0, 0);
        timeline.extend([single(100, 1), single(WINDOW * 2, 1)]);
        timeline.trim();
        assert!(!timeline.doubtful);
        assert_eq!(timeline.now(), (2, 2));
        timeline.extend([single(50, -1)]);
        assert!(timeline.doubtful);
    }

    #[test]
    fn a_statement_among_others_is_in_doubt() {
        let many = Event {
            since: 10,
            at: 30,
            viewers: 0,
            peak: 5,
        };
        let mut alone = Timeline::new(0, 0, 0);
        alone.extend([many, single(40, 1)]);
        assert_eq!((alone.now(), alone.doubtful), ((1, 5), false));
        let mut among = Timeline::new(0, 0, 0);
        among.extend([many, single(20, 1)]);
        assert!(among.doubtful);
    }

    #[test]
    fn the_same_moment_is_one() {
        let mut timeline = Timeline::new(0, 3, 3);
        timeline.extend([single(10, 1), single(10, -1)]);
        assert_eq!(timeline.now(), (3, 3));
    }
}
