use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

use super::faults::Fault;
use super::*;

fn root() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("outputs");
    fs::create_dir(&folder).unwrap();
    (root, folder)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn generator(outputs: &mut Outputs, bytes: &[u8]) -> Result<()> {
    outputs.write(Output::Generator(&GeneratorFile::of_bytes(bytes)))
}

fn samples(outputs: &mut Outputs, bytes: &[u8]) -> Result<()> {
    outputs.write(Output::Samples(&Png::of_bytes(bytes)))
}

fn samples_at(outputs: &mut Outputs, num_images: u64, bytes: &[u8]) -> Result<()> {
    outputs.write(Output::SamplesAt(num_images, &Png::of_bytes(bytes)))
}

#[test]
fn only_promised_names_are_there() {
    let (root, folder) = root();
    let mut outputs = Outputs::open(root.path()).unwrap();
    assert!(outputs.staging.is_some());
    generator(&mut outputs, b"weights").unwrap();
    samples(&mut outputs, b"grid").unwrap();
    samples_at(&mut outputs, 4000, b"grid").unwrap();
    generator(&mut outputs, b"newer").unwrap();
    let expected = ["generator.safetensors", "samples-000004000.png", "samples.png"];
    assert_eq!(names(&folder), expected);
    assert_eq!(names(root.path()), ["outputs"]);
    assert_eq!(fs::read(folder.join("generator.safetensors")).unwrap(), b"newer");
}

#[test]
fn leftovers_go_and_foreign_files_stay() {
    let (root, folder) = root();
    let temporary = format!("{TEMPORARY}1");
    for path in [&folder.join(&temporary), &root.path().join(&temporary)] {
        fs::write(path, "part").unwrap();
    }
    let kept = [".tmp-other", "samples-000000001.png", "samples.png", "theirs.txt"];
    for name in kept {
        fs::write(folder.join(name), "old").unwrap();
    }
    let mut outputs = Outputs::open(root.path()).unwrap();
    for num_images in 2..40 {
        samples_at(&mut outputs, num_images, b"new").unwrap();
    }
    samples(&mut outputs, b"new").unwrap();
    assert_eq!(names(&folder).len(), kept.len() + MAX_GRIDS);
    for name in [".tmp-other", "samples-000000001.png", "theirs.txt"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), b"old", "{name}");
    }
    assert_eq!(fs::read(folder.join("samples.png")).unwrap(), b"new");
    assert_eq!(names(root.path()), ["outputs"]);
}

#[test]
fn links_are_replaced_not_followed() {
    let (root, folder) = root();
    let victim = root.path().join("victim");
    fs::write(&victim, "theirs").unwrap();
    symlink(&victim, folder.join("samples.png")).unwrap();
    let mut outputs = Outputs::open_folder(&folder).unwrap();
    symlink(&victim, folder.join(temporary_name())).unwrap();
    assert!(samples(&mut outputs, b"new").is_err()); // the temporary name is taken
    fs::remove_file(folder.join(temporary_name())).unwrap();
    samples(&mut outputs, b"new").unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"theirs");
    assert!(folder.join("samples.png").symlink_metadata().unwrap().is_file());
}

#[test]
fn a_failure_leaves_no_part() {
    let (root, folder) = root();
    fs::create_dir(folder.join("samples.png")).unwrap(); // a file cannot replace a folder
    let mut outputs = Outputs::open(root.path()).unwrap();
    let error = samples(&mut outputs, b"grid").unwrap_err();
    let message = format!("{error:#}");
    assert!(message.starts_with("outputs: samples.png is not written: a file and a folder"));
    assert_eq!(
        (names(&folder), names(root.path())),
        (vec!["samples.png".into()], vec!["outputs".into()])
    );
    fs::remove_dir_all(&folder).unwrap();
    let error = generator(&mut outputs, b"weights").unwrap_err();
    assert!(format!("{error:#}").contains("the folder is gone"));
    assert!(names(root.path()).is_empty());
}

/// The folder that was opened is written to, and not what has its name later.
#[test]
fn a_folder_that_is_exchanged_gets_nothing() {
    let (root, folder) = root();
    let mut outputs = Outputs::open(root.path()).unwrap();
    fs::rename(&folder, root.path().join("aside")).unwrap();
    fs::create_dir(root.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &folder).unwrap();
    samples(&mut outputs, b"grid").unwrap();
    assert!(names(&root.path().join("elsewhere")).is_empty());
    assert_eq!(names(&root.path().join("aside")), ["samples.png"]);
    assert!(Outputs::open(root.path()).is_err());
    assert!(Outputs::open_folder(&folder).is_ok()); // at home it may be a link
}

#[test]
fn what_appears_beside_the_files_is_removed_and_what_was_there_is_not() {
    let (root, folder) = root();
    fs::write(folder.join("theirs.txt"), "old").unwrap();
    fs::write(folder.join("samples-000000001.png"), "old").unwrap();
    let mut outputs = Outputs::open(root.path()).unwrap();
    samples(&mut outputs, b"grid").unwrap();
    samples_at(&mut outputs, 5, b"grid").unwrap();
    for name in ["core.1", ".hidden", "samples-1.png", "samples-0000000001.png"] {
        fs::write(folder.join(name), "leak").unwrap();
    }
    symlink("/etc/passwd", folder.join("generator.safetensors")).unwrap();
    drop(outputs);
    let expected = ["samples-000000001.png", "samples-000000005.png", "samples.png", "theirs.txt"];
    assert_eq!(names(&folder), expected);
    let home = Outputs::open_folder(&folder).unwrap();
    fs::write(folder.join("note.txt"), "mine").unwrap();
    drop(home);
    assert!(folder.join("note.txt").exists());
}

/// Every call of a write fails once, with an error of the disk and with none of its space.
#[test]
fn a_fault_anywhere_leaves_the_file_of_before_and_is_reported() {
    let num_calls = 6; // create, write, sync, read twice, move
    for code in [libc::EIO, libc::ENOSPC, libc::EROFS] {
        for call in 0..=num_calls {
            let (root, folder) = root();
            let mut outputs = Outputs::open(root.path()).unwrap();
            samples(&mut outputs, b"before").unwrap();
            faults::plan(Some(Fault::Call(call, code)));
            let written = samples(&mut outputs, b"after");
            let is_due = !faults::is_pending();
            faults::plan(None);
            assert_eq!((is_due, written.is_err()), (call < num_calls, call < num_calls));
            let expected = if written.is_ok() { &b"after"[..] } else { b"before" };
            assert_eq!(fs::read(folder.join("samples.png")).unwrap(), expected);
            assert_eq!((names(&folder).len(), names(root.path()).len()), (1, 1));
        }
    }
}

#[test]
fn writes_that_take_a_part_are_gone_on_with() {
    let (root, folder) = root();
    let mut outputs = Outputs::open(root.path()).unwrap();
    faults::plan(Some(Fault::Short(3)));
    let written = samples(&mut outputs, b"0123456789");
    faults::plan(None);
    written.unwrap();
    assert_eq!(fs::read(folder.join("samples.png")).unwrap(), b"0123456789");
}

#[test]
fn a_file_larger_than_announced_is_refused() {
    let (root, folder) = root();
    let mut outputs = Outputs::open(root.path()).unwrap();
    outputs.announce(Budget::new(0, 0, None, (0, 0)));
    samples(&mut outputs, &vec![0; 64 << 10]).unwrap();
    let error = samples(&mut outputs, &vec![1; (64 << 10) + 1]).unwrap_err();
    assert!(format!("{error:#}").contains("or what was announced, allows"), "{error:#}");
    assert_eq!(fs::read(folder.join("samples.png")).unwrap(), vec![0; 64 << 10]);
}

#[test]
fn a_full_volume_is_explained() {
    let error =
        fs::File::options().write(true).open("/dev/full").unwrap().write_all(b"x").unwrap_err();
    assert!(explained(&error).to_string().starts_with("no space is left"));
}

#[test]
fn a_folder_that_is_a_file_or_refuses_files_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("outputs"), "x").unwrap();
    assert!(Outputs::open(root.path()).is_err());
    let error = Outputs::open_folder(Path::new("/proc/self")).unwrap_err(); // also as root
    assert!(error.to_string().starts_with("outputs: expected a folder that this user may write"));
}
