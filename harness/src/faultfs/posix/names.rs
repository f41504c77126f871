//! Cases about names: files and directories that are made, linked, renamed and removed.

use super::calls::{Calls, NEW};
use super::case::{Case, Seen, same};
use nix::fcntl::RenameFlags;
use rustix::fs::{OFlags, SeekFrom};

pub const CASES: &[Case] = &[
    same("create, and create exclusively", create),
    same("open a missing name, a name below a file, and a directory", wrong_kind),
    same("names of 255 and 256 bytes", long_names),
    same("rename over an existing file", rename_over),
    same("rename of an open file, written on", rename_open),
    same("rename over an open file, read on", rename_over_open),
    same("rename between two links of one file", rename_links),
    same("rename of a file over a directory, and the reverse", rename_kinds),
    same("rename of directories, with content and over others", rename_dirs),
    same("`RENAME_NOREPLACE`", no_replace),
    same("`RENAME_EXCHANGE` of files, directories and both", exchange),
    same("hard links and their count", links),
    same("hard links that cannot be made", bad_links),
    same("unlink of an open file, read, written and resized on", unlink_open),
    same("unlink, and the same name made again", unlink_again),
    same("directories: made, not empty, removed", directories),
    same("a directory that is removed while it is open", removed_dir),
    same("`readdir` while names come and go", readdir),
    same("`readdir` of 300 names", many_names),
    Case {
        name: "symbolic links",
        calls: symlinks,
        seen: Seen::Otherwise(
            &[
                "symlink s = EPERM",
                "stat s = ENOENT",
                "open s plain = ENOENT",
                "symlink l = EPERM",
                "open l NOFOLLOW = ENOENT",
                "unlink s = ENOENT",
                "unlink l = ENOENT",
            ],
            "refused: no target makes any",
        ),
    },
    Case {
        name: "named pipes",
        calls: pipes,
        seen: Seen::Otherwise(
            &["mkfifo p = ENOSYS", "stat p = ENOENT", "unlink p = ENOENT"],
            "refused: no target makes any",
        ),
    },
    Case {
        name: "`O_TMPFILE`",
        calls: nameless,
        seen: Seen::Otherwise(
            &["open . DIRECTORY+RDWR+TMPFILE = EOPNOTSUPP"],
            "refused: programs that ask for it fall back to a name",
        ),
    },
];

fn create(calls: &mut Calls) {
    drop(calls.open("f", NEW, 0o640));
    drop(calls.open("f", NEW | OFlags::EXCL, 0o600));
    drop(calls.open("f", NEW, 0o600));
    calls.stat("f");
    drop(calls.open("g", NEW | OFlags::EXCL, 0o400));
    calls.stat("g");
    drop(calls.open("d/f", NEW, 0o600));
    calls.names(".");
}

fn wrong_kind(calls: &mut Calls) {
    drop(calls.file("f", b"content"));
    calls.mkdir("d", 0o755);
    drop(calls.open("g", OFlags::RDONLY, 0));
    drop(calls.open("f/g", OFlags::RDONLY, 0));
    drop(calls.open("f", OFlags::DIRECTORY, 0));
    drop(calls.open("d", OFlags::WRONLY, 0));
    drop(calls.open("d", NEW, 0o600));
    drop(calls.open("d", OFlags::DIRECTORY, 0));
    calls.stat("f/g");
    calls.stat("g");
    calls.unlink("g");
    calls.unlink("d");
    calls.rmdir("f");
    calls.rmdir("g");
    calls.mkdir("f", 0o755);
    calls.mkdir("g/h", 0o755);
    calls.names("f");
    let dir = calls.open("d", OFlags::RDONLY, 0);
    calls.read(&dir, 10);
    calls.ftruncate(&dir, 0);
}

fn long_names(calls: &mut Calls) {
    let (longest, too_long) = ("n".repeat(255), "n".repeat(256));
    drop(calls.file(&longest, b"content"));
    calls.content(&longest);
    calls.names(".");
    drop(calls.open(&too_long, NEW, 0o600));
    calls.mkdir(&too_long, 0o700);
    calls.stat(&too_long);
    drop(calls.file("f", b"other"));
    calls.rename("f", &too_long);
    calls.link("f", &too_long);
    calls.rename("f", &longest);
    calls.content(&longest);
    calls.unlink(&longest);
}

fn rename_over(calls: &mut Calls) {
    drop(calls.file("f", b"old"));
    drop(calls.file("f.tmp", b"newer"));
    calls.rename("f.tmp", "f");
    calls.content("f");
    calls.stat("f");
    calls.stat("f.tmp");
    calls.names(".");
    calls.rename("f.tmp", "f");
    calls.rename("f", "f");
    calls.content("f");
}

fn rename_open(calls: &mut Calls) {
    calls.mkdir("d", 0o755);
    let file = calls.file("f", b"one");
    calls.rename("f", "d/g");
    calls.pwrite(&file, b"two", 3);
    calls.fstat(&file);
    calls.content("d/g");
    calls.content("f");
    calls.fsync(&file);
}

fn rename_over_open(calls: &mut Calls) {
    let old = calls.file("f", b"old");
    drop(calls.file("g", b"new"));
    calls.rename("g", "f");
    calls.fstat(&old);
    calls.pread(&old, 10, 0);
    calls.pwrite(&old, b"er", 3);
    calls.pread(&old, 10, 0);
    calls.content("f");
    calls.fsync(&old);
}

fn rename_links(calls: &mut Calls) {
    drop(calls.file("f", b"content"));
    calls.link("f", "g");
    calls.rename("f", "g");
    calls.names(".");
    calls.stat("f");
    calls.rename_with("f", "g", RenameFlags::RENAME_EXCHANGE);
    calls.rename_with("f", "g", RenameFlags::RENAME_NOREPLACE);
    calls.stat("g");
}

fn rename_kinds(calls: &mut Calls) {
    drop(calls.file("f", b"content"));
    calls.mkdir("d", 0o755);
    calls.rename("f", "d");
    calls.rename("d", "f");
    calls.rename("g", "f");
    calls.rename("f", "g/f");
    calls.rename("f", "f/g");
    calls.names(".");
}

fn rename_dirs(calls: &mut Calls) {
    for dir in ["a", "a/b", "c", "e"] {
        calls.mkdir(dir, 0o755);
    }
    drop(calls.file("a/f", b"content"));
    drop(calls.file("c/f", b"other"));
    calls.rename("a", "c");
    calls.rename("a", "a/b");
    calls.rename("a", "a/g");
    calls.rename("a", "e");
    calls.names("e");
    calls.content("e/f");
    calls.stat("a");
    calls.rename("e/b", "b");
    calls.stat("e");
    calls.stat("b");
    calls.rename("e", "c/e");
    calls.names("c");
    calls.stat("c");
    calls.rename("c/e", "c");
}

fn no_replace(calls: &mut Calls) {
    drop(calls.file("f", b"one"));
    drop(calls.file("g", b"two"));
    calls.rename_with("f", "g", RenameFlags::RENAME_NOREPLACE);
    calls.rename_with("f", "h", RenameFlags::RENAME_NOREPLACE);
    calls.rename_with("f", "h", RenameFlags::RENAME_NOREPLACE);
    calls.content("g");
    calls.content("h");
    let both = RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE;
    calls.rename_with("g", "h", both);
}

fn exchange(calls: &mut Calls) {
    drop(calls.file("f", b"one"));
    drop(calls.file("g", b"two"));
    calls.mkdir("d", 0o755);
    drop(calls.file("d/f", b"three"));
    calls.rename_with("f", "g", RenameFlags::RENAME_EXCHANGE);
    calls.content("f");
    calls.content("g");
    calls.rename_with("f", "d", RenameFlags::RENAME_EXCHANGE);
    calls.content("d");
    calls.content("f/f");
    calls.rename_with("g", "f/f", RenameFlags::RENAME_EXCHANGE);
    calls.content("g");
    calls.rename_with("g", "h", RenameFlags::RENAME_EXCHANGE);
    calls.rename_with("h", "g", RenameFlags::RENAME_EXCHANGE);
    calls.rename_with("f", "f/f", RenameFlags::RENAME_EXCHANGE);
    calls.names(".");
}

fn links(calls: &mut Calls) {
    let file = calls.file("f", b"content");
    calls.mkdir("d", 0o755);
    calls.link("f", "d/g");
    calls.link("f", "h");
    calls.fstat(&file);
    calls.stat("d/g");
    calls.pwrite(&file, b"C", 0);
    calls.content("h");
    calls.unlink("f");
    calls.stat("h");
    calls.unlink("h");
    calls.fstat(&file);
    calls.unlink("d/g");
    calls.fstat(&file);
}

fn bad_links(calls: &mut Calls) {
    drop(calls.file("f", b"content"));
    calls.mkdir("d", 0o755);
    calls.link("f", "f");
    calls.link("f", "d");
    calls.link("d", "e");
    calls.link("g", "h");
    calls.link("f", "g/h");
    calls.stat("f");
}

fn unlink_open(calls: &mut Calls) {
    let file = calls.file("f", b"content");
    calls.unlink("f");
    calls.stat("f");
    calls.fstat(&file);
    calls.pread(&file, 20, 0);
    calls.pwrite(&file, b" and more", 7);
    calls.pread(&file, 20, 0);
    calls.ftruncate(&file, 3);
    calls.fstat(&file);
    calls.fsync(&file);
    calls.seek(&file, SeekFrom::End(0));
    calls.unlink("f");
}

fn unlink_again(calls: &mut Calls) {
    let old = calls.file("f", b"old");
    calls.unlink("f");
    let new = calls.file("f", b"new one");
    calls.fstat(&old);
    calls.fstat(&new);
    calls.pwrite(&old, b"er", 3);
    calls.pread(&old, 20, 0);
    calls.content("f");
}

fn directories(calls: &mut Calls) {
    calls.mkdir("d", 0o750);
    calls.mkdir("d", 0o700);
    calls.stat("d");
    calls.mkdir("d/e", 0o700);
    calls.stat("d");
    calls.rmdir("d");
    calls.rmdir("d/e");
    calls.stat("d");
    drop(calls.file("d/f", b""));
    calls.rmdir("d");
    calls.unlink("d/f");
    calls.rmdir("d/.");
    calls.rmdir("d/..");
    calls.rmdir("d");
    calls.rmdir("d");
    calls.stat("d");
    calls.names(".");
}

fn removed_dir(calls: &mut Calls) {
    calls.mkdir("d", 0o755);
    let dir = calls.open("d", OFlags::RDONLY | OFlags::DIRECTORY, 0);
    calls.rmdir("d");
    calls.names_of(&dir);
    calls.fstat(&dir);
    calls.mkdir("d", 0o755);
    drop(calls.file("d/f", b""));
    calls.names_of(&dir);
    calls.names("d");
}

fn readdir(calls: &mut Calls) {
    calls.mkdir("d", 0o755);
    let dir = calls.open("d", OFlags::RDONLY | OFlags::DIRECTORY, 0);
    calls.names_of(&dir);
    drop(calls.file("d/a", b""));
    calls.names_of(&dir);
    calls.mkdir("d/b", 0o755);
    calls.rename("d/a", "d/c");
    calls.names_of(&dir);
    calls.unlink("d/c");
    calls.rmdir("d/b");
    calls.names_of(&dir);
    calls.fsync(&dir);
}

fn many_names(calls: &mut Calls) {
    calls.mkdir("d", 0o755);
    for number in 0..300 {
        drop(calls.file(&format!("d/file-{number:04}"), b""));
    }
    calls.names("d");
    (0..300).step_by(2).for_each(|number| calls.unlink(&format!("d/file-{number:04}")));
    calls.names("d");
}

fn symlinks(calls: &mut Calls) {
    drop(calls.file("f", b"content"));
    calls.symlink("f", "s");
    calls.stat("s");
    drop(calls.open("s", OFlags::RDONLY, 0));
    calls.symlink("l", "l");
    drop(calls.open("l", OFlags::NOFOLLOW, 0));
    calls.unlink("s");
    calls.unlink("l");
}

fn pipes(calls: &mut Calls) {
    calls.fifo("p");
    calls.stat("p");
    calls.unlink("p");
}

fn nameless(calls: &mut Calls) {
    drop(calls.open(".", OFlags::RDWR | OFlags::TMPFILE, 0o600));
}
