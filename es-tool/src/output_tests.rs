//! Case 16a: `es export` replaced links, devices and files of the store by a regular file.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure shows its line")]

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn an_incomplete_file_is_deleted_and_does_not_replace_the_target() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("out.jsonl");
    fs::write(&target, "before").unwrap();
    let mut incomplete = OutputFile::create(&target).unwrap();
    incomplete.write_all(b"half").unwrap();
    incomplete.flush().unwrap();
    assert_eq!(names(directory.path()).len(), 2);
    drop(incomplete);
    assert_eq!((names(directory.path()).len(), text(&target).as_str()), (1, "before"));
    write(&target, "whole").unwrap();
    assert_eq!((names(directory.path()).len(), text(&target).as_str()), (1, "whole"));
}

#[test]
fn a_new_file_replaces_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mut new = OutputFile::create_new(&at("new")).unwrap();
    new.write_all(b"whole").unwrap();
    assert!(!at("new").exists(), "it has no name before it is complete");
    new.finish().unwrap();
    assert_eq!(text(&at("new")), "whole");
    symlink("nothing", at("link")).unwrap();
    for name in ["new", "link", "."] {
        let refused = OutputFile::create_new(&at(name)).unwrap_err();
        assert!(matches!(refused, OutputError::Exists { .. }), "{name}: {refused}");
    }
    let second = OutputFile::create_new(&at("raced")).unwrap();
    fs::write(at("raced"), "first").unwrap();
    let refused = second.finish().unwrap_err();
    assert!(matches!(refused, OutputError::Exists { .. }), "{refused}");
    assert_eq!(
        (text(&at("raced")).as_str(), names(directory.path())),
        ("first", vec!["link".into(), "new".into(), "raced".into()])
    );
}

#[test]
fn links_are_followed_also_to_a_file_that_does_not_exist() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("below")).unwrap();
    fs::write(at("below/real"), "before").unwrap();
    symlink("below/real", at("link")).unwrap();
    symlink("link", at("second")).unwrap();
    write(&at("second"), "after").unwrap();
    assert_eq!(text(&at("below/real")), "after");
    assert!(at("link").is_symlink() && at("second").is_symlink());

    symlink("below/new", at("dangling")).unwrap();
    write(&at("dangling"), "new").unwrap();
    assert_eq!(text(&at("below/new")), "new");
    assert!(at("dangling").is_symlink());
    assert_eq!(names(&at("below")), ["new", "real"]);

    symlink("loop", at("loop")).unwrap();
    let refused = OutputFile::create(&at("loop")).unwrap_err();
    assert!(matches!(refused, OutputError::Io { .. }), "{refused}");
    symlink("below", at("directory")).unwrap();
    let refused = OutputFile::create(&at("directory")).unwrap_err();
    assert!(matches!(refused, OutputError::Directory { .. }), "{refused}");
}

#[test]
fn a_replaced_file_keeps_its_mode_and_a_new_one_has_that_of_any_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let (kept, new, plain) = (directory.path().join("a"), directory.path().join("b"), directory.path().join("c"));
    fs::write(&kept, "before").unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o640)).unwrap();
    let owner = |path: &Path| (fs::metadata(path).unwrap().uid(), fs::metadata(path).unwrap().gid());
    // Only root can create a file of another user.
    let _ = std::os::unix::fs::chown(&kept, Some(12_345), Some(12_346));
    let before = owner(&kept);
    write(&kept, "after").unwrap();
    assert_eq!((text(&kept).as_str(), owner(&kept)), ("after", before));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&kept), 0o640);
    write(&new, "").unwrap();
    fs::write(&plain, "").unwrap();
    assert_eq!(mode(&new), mode(&plain));
}

#[test]
fn a_fifo_and_a_descriptor_are_written_to_directly() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    symlink("fifo", directory.path().join("link")).unwrap();
    let reader = thread::spawn({
        let fifo = fifo.clone();
        move || text(&fifo)
    });
    write(&directory.path().join("link"), "through").unwrap();
    assert_eq!(reader.join().unwrap(), "through");
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());

    let open = File::create(directory.path().join("open")).unwrap();
    let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    if Path::new(&descriptor).exists() {
        write(Path::new(&descriptor), "by descriptor").unwrap();
        assert_eq!(text(&directory.path().join("open")), "by descriptor");
        assert_eq!(names(directory.path()), ["fifo", "link", "open"]);
        // Regression: each write to a descriptor truncated its file.
        write(Path::new(&descriptor), ", twice").unwrap();
        assert_eq!(text(&directory.path().join("open")), "by descriptor, twice");
    }
}

/// Never with /dev/null itself: a failure of this test as root would remove it.
#[test]
fn a_device_is_written_to_and_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let null = directory.path().join("null");
    let device = rustix::fs::makedev(1, 3);
    if mknodat(CWD, &null, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, device).is_err()
        || fs::OpenOptions::new().write(true).open(&null).is_err()
    {
        return println!("skipped, 1 test: only root can create a device");
    }
    symlink("null", directory.path().join("link")).unwrap();
    for name in ["null", "link"] {
        write(&directory.path().join(name), "dropped").unwrap();
        assert!(fs::symlink_metadata(&null).unwrap().file_type().is_char_device());
    }
    assert_eq!(names(directory.path()), ["link", "null"]);
}

#[test]
fn a_file_of_a_store_is_refused_by_any_path() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("store/below")).unwrap();
    fs::write(at("store/CURRENT"), "MANIFEST-000001\n").unwrap();
    fs::write(at("store/IDENTITY"), "id").unwrap();
    symlink("store", at("link")).unwrap();
    symlink("store/CURRENT", at("current")).unwrap();
    symlink("store/new", at("dangling")).unwrap();
    let paths =
        ["store/CURRENT", "store/new", "store/below/new", "store/../store/new", "link/new", "current", "dangling"];
    for name in paths {
        let refused = OutputFile::create(&at(name)).unwrap_err();
        assert!(matches!(refused, OutputError::WithinStore { .. }), "{name}: {refused}");
    }
    assert_eq!(names(&at("store")), ["CURRENT", "IDENTITY", "below"]);
    assert_eq!(text(&at("store/CURRENT")), "MANIFEST-000001\n");
    fs::create_dir(at("empty")).unwrap();
    let refused = OutputFile::create_outside(&at("empty/new"), &at("empty")).unwrap_err();
    assert!(matches!(refused, OutputError::WithinStore { .. }), "{refused}");
}
