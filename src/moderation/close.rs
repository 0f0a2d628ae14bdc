//! Closing people out of sessions in which they are welcome no longer.

use crate::access::in_force;
use crate::metrics::entry;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::Table;
use crate::pg::keep::Wait;
use crate::pg::lock::{Lock, Mode, person_slot};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use crate::pg::subtransaction::take_in_order;
use crate::pg::transaction;
use crate::sessions::finished;
use crate::viewers;
use pgrx::Uuid;
use pgrx::pg_sys;
use std::collections::BTreeSet;

thread_local! {
    static UNWELCOME: Plan = const { Plan::writing(
        sql!("select v.id, v.session_id
            from (select distinct * from unnest($1, $2) as u (influencer_id, user_id)) p
            join public.influencers i on i.id = p.influencer_id and i.user_id <> p.user_id
            join public.live_stream_viewers v on v.user_id = p.user_id and v.is_still_watching
            join public.live_stream_sessions s
              on s.id = v.session_id and s.influencer_id = p.influencer_id
           where s.status not in ", finished!(), "
             and (exists (select from public.live_stream_bans b
                           where b.influencer_id = p.influencer_id and b.user_id = p.user_id
                             and ", in_force!(), ")
                  or s.visibility = 'private'
                     and not exists (select from public.live_stream_guests g
                                      where g.session_id = s.id and g.user_id = p.user_id)
                     and not exists (select from public.live_stream_moderators m
                                      where m.influencer_id = p.influencer_id
                                        and m.user_id = p.user_id))"),
        &[pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID],
    ) };
    static OPEN_ROWS: Plan = const { Plan::writing(
        c"select count(*) from public.live_stream_viewers where user_id = $1 and is_still_watching",
        &[pg_sys::UUIDOID],
    ) };
}

thread_local! {
    static INFLUENCERS: Plan = const { Plan::writing(
        c"select id from public.influencers where id = any ($1)",
        &[pg_sys::UUIDARRAYOID],
    ) };
}

/// Those at an influencer that is still there: with one that goes, its sessions go, and nobody is
/// held up for that.
fn at_those_who_stay(people: &[(Uuid, Uuid)]) -> Result<Vec<(Uuid, Uuid)>> {
    let influencers: Vec<Uuid> = people.iter().map(|(influencer, _)| *influencer).collect();
    let there: Vec<Uuid> = as_owner(|| {
        plan::run(&INFLUENCERS, &[influencers.into()], |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    })?;
    let stays = |influencer: &Uuid| there.contains(influencer);
    Ok(people
        .iter()
        .copied()
        .filter(|(influencer, _)| stays(influencer))
        .collect())
}

/// Closes the open rows of people, each given with an influencer, in that influencer's sessions
/// where they are banned, or which are private and theirs no longer.
///
/// As for a join, the sessions are entered before the people are held. With the people held,
/// nobody of them can join: a join that came first is seen here, one that comes later sees us.
///
/// Errors: 40001 where the transaction's snapshot is older than a join.
pub fn close_unwelcome(people: &[(Uuid, Uuid)]) -> Result<()> {
    if people.is_empty() {
        return Ok(());
    }
    let people = at_those_who_stay(people)?;
    if people.is_empty() {
        return Ok(());
    }
    let (influencers, users): (Vec<Uuid>, Vec<Uuid>) = people.iter().copied().unzip();
    let slots: BTreeSet<u64> = users.iter().map(|user| person_slot(*user)).collect();
    let unwelcome = || {
        let args = [influencers.clone().into(), users.clone().into()];
        plan::run(&UNWELCOME, &args, |rows| {
            Ok((0..rows.len())
                .filter_map(|row| rows.get::<Uuid>(row, 0).zip(rows.get::<Uuid>(row, 1)))
                .collect::<Vec<_>>())
        })
    };
    let enter = |sessions: &BTreeSet<Uuid>| -> Result<()> {
        for &session in sessions {
            // One that is deleted meanwhile would want our viewers, and we its.
            entry::try_keep(session, Wait::Always)?;
            entry::enter(session)?;
        }
        Ok(())
    };
    as_owner(|| {
        let sessions_of =
            |rows: &[(Uuid, Uuid)]| -> BTreeSet<_> { rows.iter().map(|(_, id)| *id).collect() };
        let mut sessions = sessions_of(&unwelcome()?);
        let rows = take_in_order(|is_last| {
            enter(&sessions)?;
            for slot in &slots {
                Lock::Person(*slot).wait(Mode::Alone);
            }
            let rows = unwelcome()?;
            let more = &sessions_of(&rows) - &sessions;
            if !more.is_empty() && !is_last {
                sessions.extend(more);
                return Ok(None);
            }
            enter(&more)?;
            Ok(Some(rows))
        })?;
        if !rows.is_empty() {
            let ids: Vec<Uuid> = rows.into_iter().map(|(id, _)| id).collect();
            viewers::close_rows(ids)?;
        }
        check_all_seen(&users)
    })
}

/// In a transaction with one snapshot, joins since then are not seen by queries, nor closed.
fn check_all_seen(users: &[Uuid]) -> Result<()> {
    if !transaction::has_fixed_snapshot() {
        return Ok(());
    }
    let viewers = Table::read(c"public", c"live_stream_viewers")?;
    for user in users {
        let seen: i64 = plan::run(&OPEN_ROWS, &[(*user).into()], |rows| {
            Ok(rows.get(0, 0).unwrap_or(0))
        })?;
        let mut open = 0;
        viewers.find(
            c"public",
            c"live_stream_viewers_user_id_idx",
            &[("user_id", *user)],
            |row| {
                open += i64::from(row.get("is_still_watching")? == Some(true));
                Ok(true)
            },
        )?;
        if open != seen {
            return Err(Error::new(
                SqlState::SERIALIZATION_FAILURE,
                "could not serialize access due to a person who has joined or left meanwhile",
            )
            .hint("Run the transaction again."));
        }
    }
    Ok(())
}
