//! The influencers: the app's own table where it has one, or ours.

use crate::pg::error::Result;
use crate::pg::plan;

/// Whether the table is the one that we made.
pub fn is_ours() -> Result<bool> {
    let ours: Option<bool> = plan::ask(
        "select true from pg_constraint
          where conrelid = to_regclass('public.influencers')
            and conname = 'live_stream_influencers_pkey'",
        &[],
    )?;
    Ok(ours == Some(true))
}
