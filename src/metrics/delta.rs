//! What a statement changes in a session's numbers.

use super::timeline::Event;

/// Sums to add to a session's columns. Adding two deltas is doing one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Change of `current_viewers`.
    pub viewers: i64,
    /// Highest value that `viewers` had on the way, 0 at least: rows count one by one.
    pub peak: i64,
    pub unique_viewers: i64,
    pub watch_seconds: i64,
    pub messages: i64,
    pub reactions: i64,
    pub shares: i64,
    pub products: i64,
    pub clicks: i64,
    pub orders: i64,
    /// In hundredths.
    pub revenue: i64,
    pub disconnections: i64,
    pub buffering_events: i64,
    pub buffering_seconds: i64,
    /// When the first and the last viewer came or went, in microseconds as the clock's.
    pub first: Option<i64>,
    pub last: Option<i64>,
}

/// A change of more than this is applied to the session's row, where it is checked: a two
/// thousandth of what the column holds.
const LARGE: u64 = 1 << 20;
/// The same for revenue, in hundredths.
const LARGE_REVENUE: u64 = 1 << 29;

impl Delta {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is of viewers who come and go alone.
    pub fn is_of_viewers(&self) -> bool {
        *self
            == Self {
                viewers: self.viewers,
                peak: self.peak,
                unique_viewers: self.unique_viewers,
                watch_seconds: self.watch_seconds,
                first: self.first,
                last: self.last,
                ..Self::default()
            }
    }

    /// Whether it is of messages and reactions alone.
    pub fn is_of_chat(&self) -> bool {
        *self
            == Self {
                messages: self.messages,
                reactions: self.reactions,
                ..Self::default()
            }
    }

    /// A viewer comes (1) or goes (-1), at a time.
    pub fn viewer(&mut self, change: i64, at: i64) {
        self.viewers += change;
        self.peak = self.peak.max(self.viewers);
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
    }

    /// What viewers did, for a timeline; none where nobody came or went.
    pub fn event(&self) -> Option<Event> {
        let at = self.last?;
        (self.viewers != 0 || self.peak != 0).then_some(Event {
            since: self.first.unwrap_or(at),
            at,
            viewers: self.viewers,
            peak: self.peak,
        })
    }

    /// Whether a number might no longer fit its column.
    pub fn is_large(&self) -> bool {
        self.revenue.unsigned_abs() > LARGE_REVENUE
            || [
                self.viewers,
                self.peak,
                self.unique_viewers,
                self.messages,
                self.reactions,
                self.shares,
                self.products,
                self.clicks,
                self.orders,
                self.disconnections,
                self.buffering_events,
            ]
            .iter()
            .any(|number| number.unsigned_abs() > LARGE)
    }
}

impl std::ops::AddAssign for Delta {
    /// Stops at the ends of what a number can be: an owner may write anything into the log.
    fn add_assign(&mut self, later: Self) {
        self.peak = self.peak.max(self.viewers.saturating_add(later.peak));
        for (sum, change) in [
            (&mut self.viewers, later.viewers),
            (&mut self.unique_viewers, later.unique_viewers),
            (&mut self.watch_seconds, later.watch_seconds),
            (&mut self.messages, later.messages),
            (&mut self.reactions, later.reactions),
            (&mut self.shares, later.shares),
            (&mut self.products, later.products),
            (&mut self.clicks, later.clicks),
            (&mut self.orders, later.orders),
            (&mut self.revenue, later.revenue),
            (&mut self.disconnections, later.disconnections),
            (&mut self.buffering_events, later.buffering_events),
            (&mut self.buffering_seconds, later.buffering_seconds),
        ] {
            *sum = sum.saturating_add(change);
        }
        self.first = [self.first, later.first].into_iter().flatten().min();
        self.last = self.last.max(later.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_highest_on_the_way() {
        let mut delta = Delta::default();
        for change in [1, 1, -1, 1, 1, -1, -1, -1] {
            delta.viewer(change, 1);
        }
        assert_eq!((delta.viewers, delta.peak), (0, 3));
    }

    #[test]
    fn a_sum_stops_at_the_ends() {
        let most = Delta {
            viewers: i64::MAX,
            peak: i64::MAX,
            revenue: i64::MIN,
            ..Delta::default()
        };
        let mut sum = most;
        sum += most;
        assert_eq!(
            (sum.viewers, sum.peak, sum.revenue),
            (i64::MAX, i64::MAX, i64::MIN)
        );
    }

    #[test]
    fn a_sum_is_one_after_the_other() {
        let steps = [-1, 1, 1, -1, -1, 1, 1, 1];
        let mut whole = Delta::default();
        steps.iter().for_each(|&step| whole.viewer(step, 1));
        for cut in 0..=steps.len() {
            let mut halves = [Delta::default(); 2];
            for (i, &step) in steps.iter().enumerate() {
                halves[usize::from(i >= cut)].viewer(step, 1);
            }
            let mut sum = halves[0];
            sum += halves[1];
            assert_eq!(sum, whole, "cut at {cut}");
        }
    }
}
