//! The table of influencers: the app's own where it has one, or ours; and the view of what may be public of it.

use super::statement::run_file;
use crate::influencers::is_ours;
use crate::pg::catalog::relation_exists;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan;

/// Columns that apps keep a picture in, best first.
const PICTURES: &[&str] = &[
    "avatar_url",
    "profile_image_url",
    "profile_picture_url",
    "profile_image",
    "profile_picture",
    "picture_url",
    "photo_url",
    "image_url",
    "avatar",
    "picture",
    "photo",
];

/// Makes the table where there is none, and the view of what may be public of it.
pub fn install() -> Result<()> {
    if !relation_exists("public.influencers")? || is_ours()? {
        run_file("influencers", include_str!("../../sql/influencers.sql"))?;
    } else {
        check_shape()?;
    }
    run_file("influencer_cards", &cards_view()?)?;
    run_file(
        "influencer_cards",
        include_str!("../../sql/influencer_cards.sql"),
    )
}

fn check_shape() -> Result<()> {
    let shaped: Option<bool> = plan::ask(
        "select c.relkind in ('r', 'p') and c.relpersistence = 'p'
            and exists (select from pg_attribute a
                         where a.attrelid = c.oid and a.attname = 'user_id' and not a.attisdropped
                           and a.atttypid = 'uuid'::regtype)
            and exists (select from pg_attribute a join pg_index i on i.indrelid = a.attrelid
                         where a.attrelid = c.oid and a.attname = 'id'
                           and a.atttypid = 'uuid'::regtype and i.indisunique
                           and i.indpred is null and i.indnkeyatts = 1 and i.indkey[0] = a.attnum)
            and has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'references')
            and not row_security_active(c.oid)
            and (not (c.relrowsecurity and c.relforcerowsecurity)
                 or (select rolsuper or rolbypassrls from pg_roles where rolname = current_user))
           from pg_class c where c.oid = to_regclass('public.influencers')",
        &[],
    )?;
    if shaped == Some(true) {
        return Ok(());
    }
    Err(Error::new(SqlState::DUPLICATE_TABLE, "table public.influencers cannot be used")
        .detail(
            "It must be a logged table with a primary key id uuid and a column user_id uuid, and the \
             installing role needs the privileges SELECT and REFERENCES on it, and to see every row \
             whatever its policies say.",
        )
        .hint(
            "Change the table, grant the privileges, or make the role its owner, and create the \
             extension again.",
        ))
}

/// The one place that reads the app's table for others: no column but these three ever comes
/// out, whatever else the table holds.
fn cards_view() -> Result<String> {
    // A column of another kind, such as a picture's bytes, is something else by the same name.
    let column =
        |names: &[&str], kind: &str| -> Result<Option<String>> {
            plan::ask(
            "select quote_ident(a.attname) from pg_attribute a join pg_type t on t.oid = a.atttypid
              where a.attrelid = to_regclass('public.influencers') and not a.attisdropped
                and a.attname = any ($1) and t.typcategory = $2::\"char\"
                and t.oid <> 'money'::regtype
              order by array_position($1, a.attname::text) limit 1",
            &[
                names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>().into(),
                kind.into(),
            ],
        )
        };
    let (words, number) = ("S", "N");
    let text = |name: Option<String>| {
        name.map_or_else(|| "null::text".to_owned(), |name| format!("i.{name}::text"))
    };
    let display_name = text(column(&["display_name"], words)?);
    let avatar_url = text(column(PICTURES, words)?);
    let followers_count = column(&["followers_count"], number)?.map_or_else(
        || "0::bigint".to_owned(),
        |name| format!("i.{name}::bigint"),
    );
    Ok(format!(
        "create or replace view live_stream.influencer_cards as
           select i.id, {display_name} as display_name, {followers_count} as followers_count,
                  {avatar_url} as avatar_url
             from public.influencers i"
    ))
}
