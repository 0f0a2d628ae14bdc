//! The live-streaming backend that a PostgreSQL database can be: one room per domain. `ARCHITECTURE.md` is the map.

mod access;
mod chat;
mod identity;
mod influencers;
#[allow(unsafe_code)]
mod install;
mod limits;
mod metrics;
mod moderation;
mod notifications;
mod orders;
#[allow(unsafe_code)]
mod pg;
mod privacy;
mod products;
mod schedule;
mod sessions;
mod viewers;
mod worker;

::pgrx::pg_module_magic!(name, version);

/// Called by PostgreSQL once per backend, when the library is loaded.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::settings::without_backtraces();
    pg::catalog::watch();
    pg::async_commit::watch_transactions();
    pg::upsert::watch_transactions();
    identity::define_settings();
    identity::watch_transactions();
    access::define_settings();
    install::define_settings();
    limits::define_settings();
    metrics::worker::define_settings();
    metrics::watch_transactions();
    identity::address::define_settings();
    moderation::watch_transactions();
    chat::register();
    products::register();
    privacy::register();
    sessions::watch_transactions();
    viewers::define_settings();
    schedule::define_settings();
    viewers::watch_transactions();
    worker::register();
    pg::settings::reserve_prefix();
}
