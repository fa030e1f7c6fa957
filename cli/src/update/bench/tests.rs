#![cfg(unix)]

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _};

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use super::*;

/// A program that says its version.
const SAYS: &str = "#!/bin/sh\necho studio-worker 1.2.3\n";

struct Rig {
    folder: tempfile::TempDir,
    bench: Workbench,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("bin/studio-worker");
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::write(&program, "the old one").unwrap();
        let bench = Workbench { place: Place::at(program), key: None };
        bench.prepare().unwrap();
        Self { folder, bench }
    }

    fn archive(&self, bytes: &[u8]) -> String {
        let path = self.folder.path().join("archive.tar.gz");
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn make_ready(&self, bytes: &[u8]) -> Result<String, String> {
        self.bench.make_ready(&self.archive(bytes), None)
    }

    /// Everything in its folder, and what of it is not where it may be.
    fn strays(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name != "bin" && name != "archive.tar.gz").collect()
    }
}

fn entry(tar: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, body: &[u8]) {
    let mut header = Header::new_gnu();
    // As a hostile archive has it: the crate would refuse to write such a name.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    if kind == EntryType::Symlink {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_size(body.len() as u64);
    header.set_mode(0o4777);
    header.set_cksum();
    tar.append(&header, body).unwrap();
}

fn packed(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, kind, body) in entries {
        entry(&mut tar, name, *kind, body);
    }
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&tar.into_inner().unwrap()).unwrap();
    gz.finish().unwrap()
}

fn fine() -> Vec<u8> {
    packed(&[
        ("studio-worker-1.2.3/README.md", EntryType::Regular, b"read me"),
        ("studio-worker-1.2.3/studio-worker", EntryType::Regular, SAYS.as_bytes()),
        ("studio-worker-1.2.3/LICENSE", EntryType::Regular, b"MIT"),
    ])
}

#[test]
fn the_program_in_an_archive_says_its_version() {
    let rig = Rig::new();
    assert_eq!(rig.make_ready(&fine()).unwrap(), "studio-worker 1.2.3\n");
    let ready = rig.bench.place.staged();
    assert_eq!(
        fs::metadata(&ready).unwrap().permissions().mode() & 0o7777,
        0o755,
        "whatever the archive says"
    );
    assert_eq!(fs::read_to_string(rig.bench.place.program()).unwrap(), "the old one");
    let staging = fs::metadata(rig.bench.place.staging()).unwrap();
    assert_eq!(staging.permissions().mode() & 0o022, 0, "nobody else writes there");
}

#[test]
fn nothing_of_an_archive_leads_elsewhere() {
    let rig = Rig::new();
    let program = ("../../studio-worker", EntryType::Regular, SAYS.as_bytes());
    let archive = packed(&[
        ("../escaped", EntryType::Regular, b"!"),
        ("/tmp/studio-worker-escaped", EntryType::Regular, b"!"),
        ("bin", EntryType::Symlink, b""),
        ("studio-worker", EntryType::Symlink, b""),
        ("sub/studio-worker", EntryType::Link, b""),
        program,
    ]);
    rig.make_ready(&archive).unwrap();
    assert!(rig.strays().is_empty(), "{:?}", rig.strays());
    assert!(!Path::new("/tmp/studio-worker-escaped").exists());
    assert_eq!(fs::read_to_string(rig.bench.place.staged()).unwrap(), SAYS);
    assert_eq!(fs::read_to_string(rig.bench.place.program()).unwrap(), "the old one");
}

#[test]
fn a_link_in_the_place_of_the_staging_folder_is_not_followed() {
    let rig = Rig::new();
    let (staging, elsewhere) = (rig.bench.place.staging(), rig.folder.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    fs::remove_dir(&staging).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &staging).unwrap();
    rig.bench.prepare().unwrap();
    rig.make_ready(&fine()).unwrap();
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn an_archive_that_is_cut_damaged_or_of_something_else_is_refused() {
    let rig = Rig::new();
    let whole = fine();
    for bytes in [
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 4],
        b"<!doctype html>",
        &[],
        &packed(&[("studio-worker/README.md", EntryType::Regular, b"nothing else")]),
        &packed(&[("studio-worker", EntryType::Directory, b"")]),
    ] {
        let error = rig.make_ready(bytes).unwrap_err();
        assert!(error.contains("archive.tar.gz"), "{error}");
    }
    let mut damaged = whole.clone();
    let middle = damaged.len() - 6;
    damaged[middle] ^= 0xff;
    assert!(rig.make_ready(&damaged).is_err(), "its check sum is wrong");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_no_broken_archive() {
    let mut full = File::options().write(true).open("/dev/full").unwrap();
    let Err(Untaken::Unwritten(error)) = copy(&mut &b"program"[..], &mut full) else { panic!() };
    assert_eq!(error.to_string(), "No space left on device (os error 28)");
    // The program has no place.
    let rig = Rig::new();
    let program = rig.bench.place.staged();
    fs::create_dir(&program).unwrap();
    let error = rig.make_ready(&fine()).unwrap_err();
    assert_eq!(error, format!("{} can't be written: Is a directory (os error 21)", program.display()));
}

#[test]
fn what_the_system_says_of_an_archive_is_told_from_what_is_wrong_in_it() {
    let of_disk = || io::Error::from_raw_os_error(5);
    for error in [of_disk(), io::Error::other(of_disk())] {
        assert_eq!(of_system(&error).unwrap().raw_os_error(), Some(5));
    }
    for error in [io::Error::other("no tar"), io::ErrorKind::UnexpectedEof.into()] {
        assert!(of_system(&error).is_none());
    }
}

#[test]
fn a_program_that_does_not_say_its_version_is_refused() {
    let rig = Rig::new();
    for (program, words) in [("#!/bin/sh\nexit 3\n", "exit status: 3"), ("\u{7f}ELF garbage", "can't be run")]
    {
        let archive = packed(&[("studio-worker", EntryType::Regular, program.as_bytes())]);
        let error = rig.make_ready(&archive).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    // Nobody reads all that.
    let archive = packed(&[("studio-worker", EntryType::Regular, b"#!/bin/sh\nexec yes\n")]);
    assert!(rig.make_ready(&archive).is_err());
}

#[test]
fn only_a_minisign_key_is_one() {
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    assert_eq!(check_key(key), Ok(()));
    assert_eq!(check_key(&format!("untrusted comment: minisign public key\n{key}\n")), Ok(()));
    for wrong in ["", "RW", "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO", "-----BEGIN PGP"] {
        assert!(check_key(wrong).unwrap_err().contains("minisign"), "{wrong}");
    }
}

/// The example of minisign's own documentation: the file `test` with this signature of this key.
#[test]
fn a_signature_must_be_of_this_archive_and_this_key() {
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let signature = "untrusted comment: signature from minisign secret key\n\
        RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
        trusted comment: timestamp:1633700835\tfile:test\tprehashed\n\
        wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==";
    let rig = Rig::new();
    let bench = Workbench { key: Some(key.into()), ..rig.bench.clone() };
    let (good, bad) = (rig.folder.path().join("archive.tar.gz"), rig.folder.path().join("other"));
    fs::write(&good, "test").unwrap();
    fs::write(&bad, "Test").unwrap();
    assert_eq!(bench.verify(&good, Some(signature)), Ok(()));
    fs::remove_file(rig.folder.path().join("other")).unwrap();
    fs::write(&bad, "Test").unwrap();
    for (file, signature) in
        [(&bad, Some(signature)), (&good, None), (&good, Some("garbage")), (&good, Some(""))]
    {
        assert!(bench.verify(file, signature).is_err(), "{signature:?}");
    }
    let other = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO4";
    assert!(check_key(other).is_ok());
    let bench = Workbench { key: Some(other.into()), ..bench };
    assert!(bench.verify(&good, Some(signature)).is_err());
}
