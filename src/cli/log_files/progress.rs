//! How far long reading is, on standard error if that is a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar of bytes; hidden where nobody would see it.
pub(crate) fn bytes_bar(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{msg} [{bar:30}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10))
        .with_style(style.progress_chars("=> "))
        .with_message(what)
}

/// Shows how far it is.
pub(crate) fn show(bar: &ProgressBar, bytes: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(bytes);
}
