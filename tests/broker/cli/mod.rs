//! The `leveret` command as people and scripts use it: the real binary, its output and its exit status.

mod access;
mod backup;
mod cancel;
mod consume;
mod consume_exec;
mod crash;
mod damage;
mod demo;
mod demo_panes;
mod draw;
mod events;
mod explain;
#[cfg(target_os = "linux")]
mod full_disk;
mod get;
mod golden_data;
mod log_files;
mod mistakes;
mod mixed_up;
mod open_files;
mod perf;
mod properties;
mod publish;
mod receipts;
mod replay;
mod service_manager;
mod simulate;
mod standalone;
mod status;
mod subscribe;
mod subscriptions;
mod topology;
mod transfer;
#[cfg(target_os = "linux")]
mod unread_log;
mod vhost_quarantine;
