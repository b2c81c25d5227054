//! Files that the program reads and writes: links, devices, modes, compression, other formats.

use std::fs;
use std::io::Write;
use std::process::Command;

use es_core::{Commit, EventType, ExpectedRevision, NewEvent};
use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};

use crate::support::{TestDir, field, files, stream};

fn one_event() -> Commit {
    Commit::to(&stream("a-1"), ExpectedRevision::Any, [NewEvent::json(EventType::new("t").unwrap(), "{}")])
}

fn lines(count: u32) -> String {
    let line = |id| format!(r#"{{"stream":"a-1","type":"t","data":{id},"id":"00000000-0000-8000-8000-{id:012}"}}"#);
    (1..=count).map(|id| line(id) + "\n").collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Case 15: compressed lines were refused, and other formats were taken for CSV.
#[test]
fn compressed_lines_are_imported_and_other_formats_are_named() {
    let dir = TestDir::new();
    // The content decides, not the name.
    dir.write("one.jsonl", gzip(&lines(3)));
    dir.write("two.jsonl", compress_to_vec(lines(5).as_bytes(), CompressionLevel::Fastest));
    assert_eq!(dir.json(&["import", "one.jsonl"])["added"], json!(3));
    assert_eq!(dir.json(&["import", "two.jsonl"])["added"], json!(2));
    let mut child = dir.command(&["import", "-", "--json"]);
    let mut child = child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&gzip(&lines(6))).unwrap();
    let output: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!((&output["added"], &output["repeated"]), (&json!(1), &json!(5)));

    let whole = gzip(&lines(5000));
    dir.write("torn.gz", &whole[..whole.len() / 2]);
    let refused = dir.run(&["import", "torn.gz"]);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains("could not read torn.gz"), "{}", refused.err);

    let utf16: Vec<u8> = lines(1).encode_utf16().flat_map(u16::to_le_bytes).collect();
    dir.write("bom.jsonl", [b"\xff\xfe".as_slice(), &utf16].concat());
    dir.write("plain.jsonl", utf16);
    dir.write("e.xz", b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46");
    dir.write("e.zip", b"PK\x03\x04\x14\0\0\0\x08\0");
    dir.write("e.bz2", b"BZh91AY&SY");
    for (file, found, convert) in [
        ("bom.jsonl", "text in UTF-16", "iconv -f UTF-16 -t UTF-8 <"),
        ("plain.jsonl", "text in UTF-16", "iconv -f UTF-16LE -t UTF-8 <"),
        ("e.xz", "xz", "xz -dc <"),
        ("e.zip", "a zip archive", "unzip -p"),
        ("e.bz2", "bzip2", "bzip2 -dc <"),
    ] {
        let message = format!(
            "error: expected text in {file}, plain or compressed by gzip or zstd, found {found}; convert it: \
             `{convert} {file} > NEW`"
        );
        dir.refused(&["import", file], 1, &message);
    }
}

/// A commit in conflict with the store has all of its lines in the list, because none of them was imported.
#[test]
fn both_lines_of_a_commit_in_conflict_are_listed() {
    let dir = TestDir::new();
    let line = |id: u32, stream: &str, part: &str| {
        format!(r#"{{"stream":"{stream}","type":"t","data":1,"id":"00000000-0000-8000-8000-{id:012}"{part}}}"#) + "\n"
    };
    dir.write("one.jsonl", line(2, "a-1", ""));
    dir.done(&["import", "one.jsonl"]);
    let part = |index: u32| format!(r#","commit":{{"index":{index},"size":2}}"#);
    dir.write("two.jsonl", [line(1, "b-1", &part(0)), line(2, "b-1", &part(1)), line(3, "b-1", "")].concat());
    let summary = dir.json(&["import", "two.jsonl", "--skip-bad", "bad.jsonl"]);
    assert_eq!(
        summary,
        json!({"lines": 3, "added": 1, "repeated": 0, "hidden": 0, "lost_claims": 0, "skipped": 2, "head": 2})
    );
    let bad: Vec<Value> = dir.read("bad.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(field(&bad, "line"), [1, 2]);
    for error in field(&bad, "error") {
        assert!(
            error.as_str().unwrap().contains("expected all or none of its 2 event ids in the log, found 1"),
            "{error}"
        );
    }
    assert_eq!(field(&dir.lines(&["log"]), "stream"), ["a-1", "b-1"]);
}

#[test]
fn a_list_of_skipped_lines_replaces_neither_the_input_nor_a_file_of_the_store() {
    let dir = TestDir::with([one_event()]);
    dir.write("in.jsonl", "nonsense\n");
    let ran = dir.run(&["import", "in.jsonl", "--skip-bad", "store/index/CURRENT"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("expected a file outside of the store in "), "{}", ran.err);
    fs::create_dir(dir.path("new")).unwrap();
    let ran = dir.run(&["--store", "new", "import", "in.jsonl", "--skip-bad", "new/bad.jsonl"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert_eq!(dir.run(&["import", "in.jsonl", "--skip-bad", "./in.jsonl"]).code, Some(2));
    assert_eq!(dir.run(&["import", "in.jsonl", "--skip-bad", "/dev/stdout"]).code, Some(2));
    assert_eq!(dir.read("in.jsonl"), "nonsense\n");
    assert_eq!(dir.json(&["verify"])["sound"], json!(true));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    use super::*;

    fn mode(dir: &TestDir, name: &str) -> u32 {
        fs::symlink_metadata(dir.path(name)).unwrap().permissions().mode() & 0o7777
    }

    /// Case 16a: an export replaced links, devices and the files of the store itself.
    #[test]
    fn an_export_follows_links_and_replaces_neither_devices_nor_files_of_the_store() {
        let dir = TestDir::with([one_event()]);
        let export = dir.done(&["export"]);
        fs::create_dir(dir.path("below")).unwrap();
        dir.write("below/real", "before");
        fs::set_permissions(dir.path("below/real"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("below/real", dir.path("link")).unwrap();
        symlink("below/new", dir.path("dangling")).unwrap();
        for (link, target) in [("link", "below/real"), ("dangling", "below/new")] {
            dir.done(&["export", link]);
            assert!(dir.path(link).is_symlink());
            assert_eq!(dir.read(target), export);
        }
        assert_eq!(mode(&dir, "below/real"), 0o640);
        assert_eq!(fs::read_dir(dir.path("below")).unwrap().count(), 2);

        symlink("store/index/CURRENT", dir.path("current")).unwrap();
        symlink("store", dir.path("other")).unwrap();
        for path in
            ["store/index/CURRENT", "store/new.jsonl", "other/index/CURRENT", "current", "below/../store/index/CURRENT"]
        {
            let refused = dir.run(&["export", path]);
            assert_eq!(refused.code, Some(1), "{path}: {}", refused.err);
            assert!(refused.err.starts_with("error: expected a file outside of the store in "), "{}", refused.err);
        }
        dir.refused(&["export", "below"], 1, "error: expected a file to write to, found a directory: below");
        assert_eq!(dir.json(&["verify"])["sound"], json!(true));
    }

    /// The directories of backups, restored, repaired and new stores are not within a store either.
    #[test]
    fn no_command_writes_into_the_directory_of_a_store() {
        let dir = TestDir::with([one_event()]);
        symlink("store", dir.path("link")).unwrap();
        dir.write("in.jsonl", lines(1));
        dir.done(&["backup", "backups"]);
        let before = fs::read_dir(dir.path("store")).unwrap().count();
        for within in ["store/new", "link/new", "backups/../store/new/deeper"] {
            for args in [
                ["backup", within].as_slice(),
                &["restore", "backups", "--to", within],
                &["--store", within, "append", "a-1", "--type", "t", "--data", "1"],
                &["--store", within, "import", "in.jsonl"],
                &["export", &format!("{within}.jsonl")],
            ] {
                let ran = dir.run(args);
                assert_eq!(ran.code, Some(1), "{args:?}: {} {}", ran.out, ran.err);
                assert!(!dir.path("store/new").exists(), "{args:?}");
            }
        }
        assert_eq!(fs::read_dir(dir.path("store")).unwrap().count(), before);
        let inner =
            "error: expected an event store or an empty directory in link/new, found a path within the store in ";
        let ran = dir.run(&["--store", "link/new", "append", "a-1", "--type", "t", "--data", "1"]);
        assert!(ran.err.starts_with(inner), "{}", ran.err);
    }

    #[test]
    fn an_export_to_a_fifo_or_a_device_writes_through_it() {
        let dir = TestDir::with([one_event()]);
        let export = dir.done(&["export"]);
        let made = |args: &[&str]| Command::new(args[0]).args(&args[1..]).current_dir(dir.path("")).status();
        assert!(made(&["mkfifo", "fifo"]).unwrap().success());
        let reader = std::thread::spawn({
            let fifo = dir.path("fifo");
            move || fs::read_to_string(fifo).unwrap()
        });
        dir.done(&["export", "fifo"]);
        assert_eq!(reader.join().unwrap(), export);
        assert!(fs::symlink_metadata(dir.path("fifo")).unwrap().file_type().is_fifo());
        assert_eq!(dir.done(&["export", "/dev/stdout"]), export);

        // Never with /dev/null itself: a failure of this test as root would remove it.
        if !made(&["mknod", "null", "c", "1", "3"]).unwrap().success() {
            return println!("skipped, the device: only root can create one");
        }
        if dir.run(&["export", "null"]).code == Some(0) {
            assert!(fs::symlink_metadata(dir.path("null")).unwrap().file_type().is_char_device());
        }
    }

    #[test]
    fn a_store_is_for_its_user_and_an_export_has_the_mode_of_any_new_file() {
        let dir = TestDir::new();
        dir.write("in.jsonl", lines(3) + "nonsense\n");
        dir.done(&["import", "in.jsonl", "--skip-bad", "bad.jsonl"]);
        dir.done(&["backup", "backups"]);
        dir.done(&["restore", "backups", "--to", "restored"]);
        for name in ["store", "backups/backup-000001", "restored"] {
            assert_eq!(mode(&dir, name), 0o700, "{name}");
            for file in files(&dir.path(name)) {
                assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
            }
        }
        assert_eq!(mode(&dir, "bad.jsonl"), 0o600);
        dir.done(&["export", "out.jsonl"]);
        assert_eq!(mode(&dir, "out.jsonl"), mode(&dir, "in.jsonl"));
        assert_eq!(dir.json(&["info"])["mode"], json!("700"));
        // The mode of an existing store is not changed, only shown.
        fs::set_permissions(dir.path("store"), fs::Permissions::from_mode(0o755)).unwrap();
        dir.done(&["append", "a-1", "--type", "t", "--data", "1"]);
        assert_eq!(mode(&dir, "store"), 0o755);
        let info = dir.done(&["info"]);
        assert!(info.contains("755: other users can read the store; `chmod 700"), "{info}");
    }

    /// Regression: a command failed after its work was done, because the path in its answer is not UTF-8.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_answer_has_any_path() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        let dir = TestDir::with([one_event()]);
        let name = |text: &'static [u8]| OsStr::from_bytes(text);
        let run = |args: &[&OsStr]| {
            let output = dir.command(&["--json"]).args(args).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        };
        let (export, backup, restore, info) = ("export".as_ref(), "backup".as_ref(), "restore".as_ref(), "info");
        assert_eq!(run(&[export, name(b"e\xff")])["file"], "e\u{fffd}");
        assert_eq!(run(&[backup, name(b"b\xff")])["directory"], "b\u{fffd}/backup-000001");
        assert_eq!(run(&[restore, name(b"b\xff"), "--to".as_ref(), name(b"r\xff")])["directory"], "r\u{fffd}");
        let found = run(&["--store".as_ref(), name(b"r\xff"), info.as_ref()])["directory"].take();
        assert!(found.as_str().unwrap().ends_with("/r\u{fffd}"), "{found}");
        let retag = ["t", "n", "/n"].map(OsStr::new);
        let to = ["retag".as_ref(), "--to".as_ref(), name(b"t\xff"), "--tag".as_ref()];
        assert_eq!(run(&[to.as_slice(), &retag].concat())["directory"], "t\u{fffd}");

        fs::write(dir.path("").join(name(b"in\xff")), "nonsense\n").unwrap();
        let import = ["import".as_ref(), name(b"in\xff"), "--skip-bad".as_ref(), "bad.jsonl".as_ref()];
        assert_eq!(run(&import)["skipped"], 1);
        let bad: Value = serde_json::from_str(&dir.read("bad.jsonl")).unwrap();
        assert_eq!(bad["file"], "in\u{fffd}");
    }
}
