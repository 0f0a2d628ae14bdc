//! Whether a rule ever matches, and when it ends.

use super::Expansion;
use crate::rule::{End, InvalidRule, Rule};

/// The starts for which a rule that is written is tried.
const TRIED: usize = 20;

/// The first and, of a rule that ends, the last start (or a time after which there is none), in
/// seconds of clock time since 1970-01-01. `first` is DTSTART, as of [`Expansion::new`].
///
/// Errors: the part that keeps the rule from ever matching, or lets it match so rarely that
/// nobody can look for it, or a COUNT that takes too long to count to.
pub fn bounds(rule: &Rule, first: i64) -> Result<(i64, Option<i64>), InvalidRule> {
    let mut starts = Expansion::new(rule, first, first);
    let Some(begin) = starts.next() else {
        return Err(never(rule, first, starts.is_exhausted()));
    };
    let tried = |starts: &mut Expansion| {
        starts.by_ref().take(TRIED).for_each(drop);
        if starts.is_exhausted() {
            return Err(never(rule, first, true));
        }
        Ok(())
    };
    let end = match rule.end {
        End::Never => {
            tried(&mut starts)?;
            None
        }
        End::Until(until) | End::UntilUtc(until) => {
            tried(&mut starts)?;
            Some(until)
        }
        End::Count(count) => {
            let last = starts.by_ref().last().unwrap_or(begin);
            if starts.is_exhausted() {
                let why = format!("Counting to {count} takes too long; give UNTIL instead.");
                return Err(InvalidRule::new("COUNT", why));
            }
            Some(last)
        }
    };
    Ok((begin, end))
}

/// Names the part without which there would be a start.
fn never(rule: &Rule, first: i64, exhausted: bool) -> InvalidRule {
    if let End::Until(until) = rule.end
        && until < first
    {
        return InvalidRule::new("UNTIL", "It is before the first start.");
    }
    // Not those that match as rarely.
    let matches = |lesser: &Rule| {
        let mut starts = Expansion::new(lesser, first, first);
        let some = starts.by_ref().take(TRIED).count();
        some > 0 && !(exhausted && starts.is_exhausted())
    };
    let culprit = rule
        .with_one_part_less()
        .into_iter()
        .find(|(_, lesser)| matches(lesser));
    let part = culprit.map_or("FREQ", |(part, _)| part);
    let why = if exhausted {
        "With it the rule never matches, or too rarely to look for."
    } else {
        "With it the rule never matches."
    };
    InvalidRule::new(part, why)
}
