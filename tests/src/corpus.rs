//! Inputs of getty's own fuzz targets: replayed by the tests, and packed for git.
//!
//! `cargo fuzz` works in `fuzz/corpus/TARGET`, a folder with a file per input, which git ignores. The inputs
//! to keep are packed in one file per target, `fuzz/packed/TARGET`: a [`LengthDelimited`] frame for each
//! input, sorted, none twice. So the same inputs always give the same file. The example `corpus` of this
//! crate packs and unpacks.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use getty_core::codec::{Decoded, Decoder, Encoder, LengthDelimited, Sink, Source};

/// Runs a fuzz target on each of its packed inputs.
///
/// Prints the name of each input first: the file that it has once it is unpacked.
///
/// # Panics
/// If the packed file is missing, empty or cut off; and where `run` does.
pub fn replay(target: &str, run: impl Fn(&[u8])) {
    let inputs = Corpora::own().inputs(target).unwrap_or_else(|error| panic!("{error}"));
    for (n, input) in inputs.iter().enumerate() {
        println!("{target}/{}", file_name(n));
        run(input);
    }
}

/// The corpora of a fuzz crate, packed and unpacked.
#[derive(Debug, Clone)]
pub struct Corpora {
    packed: PathBuf,
    unpacked: PathBuf,
}

/// A corpus as packed, compared with the one packed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Inputs in it.
    pub inputs: usize,
    /// Inputs that were not packed before.
    pub added: usize,
    /// Inputs that were packed before and are not any longer.
    pub removed: usize,
}

impl Corpora {
    /// Corpora of the fuzz crate in the folder `fuzz`.
    pub fn new(fuzz: &Path) -> Self {
        Corpora { packed: fuzz.join("packed"), unpacked: fuzz.join("corpus") }
    }

    /// Corpora of getty's own fuzz crate.
    pub fn own() -> Self {
        Self::new(&Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("fuzz"))
    }

    /// Names of the targets that have a packed corpus, sorted.
    ///
    /// # Errors
    /// If their folder is missing or empty.
    pub fn packed(&self) -> io::Result<Vec<String>> {
        names(&self.packed)
    }

    /// Names of the targets that have a folder of inputs, sorted.
    ///
    /// # Errors
    /// If there is none.
    pub fn unpacked(&self) -> io::Result<Vec<String>> {
        names(&self.unpacked).map_err(nothing_to_pack)
    }

    /// The packed inputs of `target`: at least one.
    ///
    /// # Errors
    /// If the packed file is missing, empty or cut off.
    pub fn inputs(&self, target: &str) -> io::Result<Vec<Bytes>> {
        let path = self.packed.join(target);
        let mut packed = BytesMut::from(Bytes::from(fs::read(&path).map_err(in_path(&path))?));
        let mut codec = LengthDelimited::new();
        let mut inputs = Vec::new();
        let invalid = |what| error(&path, ErrorKind::InvalidData, what);
        while let Decoded::Frame(input) =
            codec.decode(&mut Source::new(&mut packed)).map_err(|error| invalid(error.to_string()))?
        {
            inputs.push(input);
        }
        if !packed.is_empty() {
            return Err(invalid(format!("cut off: its last {} bytes are not a whole input", packed.len())));
        }
        if inputs.is_empty() {
            return Err(invalid("it holds no inputs".to_owned()));
        }
        Ok(inputs)
    }

    /// Writes each packed input of `target` to a file in the target's folder, and returns how many there are.
    ///
    /// Other inputs that are in the folder stay there.
    ///
    /// # Errors
    /// Those of [`inputs`](Self::inputs), and if a file cannot be written.
    pub fn unpack(&self, target: &str) -> io::Result<usize> {
        let inputs = self.inputs(target)?;
        let folder = self.unpacked.join(target);
        fs::create_dir_all(&folder).map_err(in_path(&folder))?;
        for (n, input) in inputs.iter().enumerate() {
            let path = folder.join(file_name(n));
            fs::write(&path, input).map_err(in_path(&path))?;
        }
        Ok(inputs.len())
    }

    /// Makes the packed corpus of `target` equal to what is in the target's folder.
    ///
    /// # Errors
    /// If the folder is missing or empty, if what was packed before cannot be read, and if the packed file
    /// cannot be written. In all cases but the last, nothing has changed.
    pub fn pack(&self, target: &str) -> io::Result<Packed> {
        let folder = self.unpacked.join(target);
        let mut inputs = BTreeSet::new();
        for name in names(&folder).map_err(nothing_to_pack)? {
            let path = folder.join(name);
            inputs.insert(Bytes::from(fs::read(&path).map_err(in_path(&path))?));
        }
        let path = self.packed.join(target);
        let before = if path.exists() { BTreeSet::from_iter(self.inputs(target)?) } else { BTreeSet::new() };

        let mut packed = BytesMut::new();
        let mut codec = LengthDelimited::new();
        for input in &inputs {
            codec
                .encode(input.clone(), &mut Sink::new(&mut packed))
                .map_err(|too_long| error(&folder, ErrorKind::InvalidInput, too_long))?;
        }
        fs::create_dir_all(&self.packed).map_err(in_path(&self.packed))?;
        fs::write(&path, packed).map_err(in_path(&path))?;
        Ok(Packed {
            inputs: inputs.len(),
            added: inputs.difference(&before).count(),
            removed: before.difference(&inputs).count(),
        })
    }
}

/// Name of the file of the packed input number `n`.
fn file_name(n: usize) -> String {
    format!("{n:04}")
}

/// Names of what is in `folder`, sorted: at least one.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries: io::Result<Vec<_>> = fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
    });
    let mut names = entries.map_err(in_path(folder))?;
    if names.is_empty() {
        return Err(error(folder, ErrorKind::NotFound, "the folder is empty"));
    }
    names.sort_unstable();
    Ok(names)
}

fn nothing_to_pack(cause: io::Error) -> io::Error {
    let text = format!(
        "{cause}; nothing was packed, as that would delete the inputs packed before: unpack them first"
    );
    io::Error::new(cause.kind(), text)
}

fn error(path: &Path, kind: ErrorKind, what: impl Display) -> io::Error {
    io::Error::new(kind, format!("{}: {what}", path.display()))
}

/// Puts `path` before the text of an error.
fn in_path(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |cause| error(path, cause.kind(), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder for a fuzz crate, deleted in the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("getty-corpus-{}-{test}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Folder(path)
        }

        fn corpora(&self) -> Corpora {
            Corpora::new(&self.0)
        }

        fn packed(&self, target: &str) -> PathBuf {
            self.0.join("packed").join(target)
        }

        fn unpacked(&self, target: &str) -> PathBuf {
            self.0.join("corpus").join(target)
        }

        fn save(&self, target: &str, inputs: &[(&str, &[u8])]) {
            fs::create_dir_all(self.unpacked(target)).unwrap();
            for (name, input) in inputs {
                fs::write(self.unpacked(target).join(name), input).unwrap();
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn inputs_are_packed_in_order_and_once() {
        let folder = Folder::new("order");
        folder.save("echo", &[("a", b"zz"), ("b", b""), ("c", b"abc"), ("d", b"zz")]);
        assert_eq!(folder.corpora().pack("echo").unwrap(), Packed { inputs: 3, added: 3, removed: 0 });
        assert_eq!(fs::read(folder.packed("echo")).unwrap(), b"\0\0\0\0\0\0\0\x03abc\0\0\0\x02zz");
        assert_eq!(folder.corpora().packed().unwrap(), ["echo"]);
        assert_eq!(folder.corpora().inputs("echo").unwrap(), ["", "abc", "zz"]);
    }

    #[test]
    fn what_is_packed_is_what_is_in_the_folder() {
        let folder = Folder::new("equal");
        folder.save("echo", &[("a", b"1"), ("b", b"2")]);
        folder.corpora().pack("echo").unwrap();
        fs::remove_file(folder.unpacked("echo").join("a")).unwrap();
        folder.save("echo", &[("c", b"3"), ("d", b"4")]);
        assert_eq!(folder.corpora().pack("echo").unwrap(), Packed { inputs: 3, added: 2, removed: 1 });
        assert_eq!(folder.corpora().inputs("echo").unwrap(), ["2", "3", "4"]);
    }

    #[test]
    fn unpacking_deletes_nothing() {
        let folder = Folder::new("found");
        folder.save("echo", &[("a", b"1"), ("b", b"2")]);
        folder.corpora().pack("echo").unwrap();
        fs::remove_dir_all(folder.unpacked("echo")).unwrap();
        folder.save("echo", &[("found", b"3")]);
        assert_eq!(folder.corpora().unpack("echo").unwrap(), 2);
        assert_eq!(names(&folder.unpacked("echo")).unwrap(), ["0000", "0001", "found"]);
        assert_eq!(folder.corpora().pack("echo").unwrap(), Packed { inputs: 3, added: 1, removed: 0 });
    }

    #[test]
    fn a_corpus_unpacks_and_packs_to_the_same_file() {
        let folder = Folder::new("same");
        fs::create_dir(folder.0.join("packed")).unwrap();
        fs::copy(Corpora::own().packed.join("raw"), folder.packed("raw")).unwrap();
        let before = fs::read(folder.packed("raw")).unwrap();
        let inputs = folder.corpora().unpack("raw").unwrap();
        assert_eq!(folder.corpora().unpacked().unwrap(), ["raw"]);
        assert_eq!(folder.corpora().pack("raw").unwrap(), Packed { inputs, added: 0, removed: 0 });
        assert!(fs::read(folder.packed("raw")).unwrap() == before, "another file");
    }

    #[test]
    fn every_fuzz_target_has_a_packed_corpus() {
        let corpora = Corpora::own();
        let sources = names(&corpora.packed.with_file_name("fuzz_targets")).unwrap();
        let targets: Vec<_> = sources.iter().map(|name| name.strip_suffix(".rs").unwrap()).collect();
        assert_eq!(corpora.packed().unwrap(), targets);
        for target in targets {
            let inputs = corpora.inputs(target).unwrap();
            assert!(inputs.is_sorted_by(|a, b| a < b), "{target} is not as it would be packed");
        }
    }

    #[test]
    fn a_folder_without_inputs_is_not_packed() {
        let folder = Folder::new("nothing");
        folder.save("echo", &[("a", b"1")]);
        folder.corpora().pack("echo").unwrap();
        fs::remove_file(folder.unpacked("echo").join("a")).unwrap();
        let error = folder.corpora().pack("echo").unwrap_err().to_string();
        assert!(error.contains("corpus/echo: the folder is empty; nothing was packed"), "{error}");
        fs::remove_dir(folder.unpacked("echo")).unwrap();
        assert_eq!(folder.corpora().pack("echo").unwrap_err().kind(), ErrorKind::NotFound);
        let error = folder.corpora().unpacked().unwrap_err().to_string();
        assert!(error.contains("corpus: the folder is empty; nothing was packed"), "{error}");
        assert_eq!(folder.corpora().inputs("echo").unwrap(), ["1"]);
    }

    #[test]
    fn a_packed_corpus_that_is_missing_empty_or_cut_off_is_an_error() {
        let folder = Folder::new("cut");
        let error = || folder.corpora().inputs("echo").unwrap_err();
        assert_eq!(error().kind(), ErrorKind::NotFound);

        fs::create_dir(folder.0.join("packed")).unwrap();
        fs::write(folder.packed("echo"), b"").unwrap();
        assert!(error().to_string().ends_with("packed/echo: it holds no inputs"), "{}", error());

        let whole = b"\0\0\0\x01a\0\0\0\x02bc";
        for length in (1..whole.len()).filter(|&length| length != 5) {
            fs::write(folder.packed("echo"), &whole[..length]).unwrap();
            assert!(error().to_string().contains("packed/echo: cut off"), "{length} bytes: {}", error());
        }
    }
}
