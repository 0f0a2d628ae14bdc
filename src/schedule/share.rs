//! What one request spends on the schedules of one influencer: so much, and no more. Then the readers of all schedules
//! pay for nobody's alone, however many dear ones it has.

/// What expanding the rules of an influencer may cost a request that lists many schedules, as
/// [`recurrence::expand::Expansion::spent`] counts: a tenth of a second.
const WORK: u32 = 1_000_000;

/// What an exception that is read costs, in the same measure.
const EXCEPTION: u32 = 25;

/// The most exceptions of an influencer that such a request reads at once. Twice what one may have by default: one that is
/// moved within the time is read twice.
pub const MOST_EXCEPTIONS: usize = 20_000;

/// What is left of an influencer's share.
pub struct Share {
    left: u32,
}

impl Default for Share {
    fn default() -> Self {
        Self { left: WORK }
    }
}

impl Share {
    pub fn left(&self) -> u32 {
        self.left
    }

    /// What may be spent on less than what is listed: half is kept for that.
    pub fn left_to_compare(&self) -> u32 {
        self.left.saturating_sub(WORK / 2)
    }

    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    pub fn spend(&mut self, work: u32) {
        self.left = self.left.saturating_sub(work);
    }

    pub fn spend_exceptions(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.spend(count.saturating_mul(EXCEPTION));
    }
}
