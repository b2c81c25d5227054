//! The command `info`.

use std::path::Path;
use std::time::Duration;

use es_core::EventReader;
use es_core::store::StoreInfo;
use es_rocksdb::ReadOnlyStore;
use es_tool::text::table;

use crate::answer::{print, print_ahead_note};
use crate::failure::Failure;
use crate::service::Target;
use crate::text::{count, format_bytes, format_duration, format_time, quoted};

pub(super) async fn run(target: &Target, json: bool) -> Result<(), Failure> {
    let info: StoreInfo = match target {
        Target::Directory(directory) => ReadOnlyStore::open(directory).await?.info().await?,
        Target::Service(service) => service.get("/info", &[]).await?,
    };
    print(json, || to_text(&info), &info)?;
    print_ahead_note(info.ahead_of_clock_seconds.filter(|_| !json).map(Duration::from_secs));
    Ok(())
}

fn to_text(info: &StoreInfo) -> String {
    let directory = info.directory.as_ref().map(|directory| directory.display().to_string());
    let size = info.bytes_on_disk.zip(info.files);
    let rows = [
        ("directory", directory),
        ("store id", info.store_id.as_ref().map(ToString::to_string)),
        ("log id", Some(info.log_id.to_string())),
        ("created", info.created.map(format_time)),
        ("last position", Some(info.head.map_or("no events".into(), |head| head.to_string()))),
        ("last recorded", Some(info.last_recorded_at.map_or("never".into(), format_time))),
        ("on disk", size.map(|(bytes, files)| format!("{} in {}", format_bytes(bytes), count(files, "file", "files")))),
        ("access", info.mode.as_ref().zip(info.directory.as_deref()).map(|(mode, directory)| access(mode, directory))),
        ("ahead of the clock", info.ahead_of_clock_seconds.map(Duration::from_secs).map(format_duration)),
    ];
    let rows = rows.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?]));
    table(["property", "value"], 2, rows).to_string()
}

/// Formats the mode of the directory and its meaning.
fn access(mode: &str, directory: &Path) -> String {
    if mode.ends_with("00") {
        return format!("{mode}: only its user");
    }
    format!(
        "{mode}: other users can read the store; `chmod 700 {}` prevents that",
        quoted(&directory.display().to_string())
    )
}
