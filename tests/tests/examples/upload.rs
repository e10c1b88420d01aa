//! The example of files that go up and down in pieces.

use std::path::{Path, PathBuf};

use getty_driver::rpc::Code;

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../../adapters/tokio/examples/upload.rs"]
mod example;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("upload-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_file_comes_back_as_it_went() {
    let (mine, theirs) = (Folder::new("mine"), Folder::new("theirs"));
    let server = example::serve("127.0.0.1:0", &theirs.0).await.unwrap();
    let folder = example::connect(&server.local_addr().to_string()).await.unwrap();
    let file: Vec<u8> =
        (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(mine.0.join("numbers"), &file).unwrap();
    assert_eq!(example::put(&folder, &mine.0.join("numbers")).await.unwrap(), "3000000");
    assert_eq!(theirs.names(), ["numbers"]);
    let mut back = Vec::new();
    example::get(&folder, "numbers", &mut back).await.unwrap();
    assert!(back == file);
}

#[tokio::test]
async fn nothing_is_left_of_what_is_given_up_or_refused() {
    let theirs = Folder::new("refused");
    let server = example::serve("127.0.0.1:0", &theirs.0).await.unwrap();
    let folder = example::connect(&server.local_addr().to_string()).await.unwrap();
    for name in ["../numbers", "a/b", "..", ".", "", "/etc/passwd"] {
        let (pieces, stored) = folder.put().metadata("name", name).await.unwrap();
        pieces.finish();
        assert_eq!(stored.await.unwrap_err().code(), Code::InvalidArgument, "{name}");
        let mut pieces = folder.get(name.to_owned()).await.unwrap();
        assert_eq!(pieces.recv().await.unwrap_err().code(), Code::InvalidArgument, "{name}");
    }
    let mut pieces = folder.get("missing".to_owned()).await.unwrap();
    assert_eq!(pieces.recv().await.unwrap_err().code(), Code::NotFound);

    let (mut pieces, stored) = folder.put().metadata("name", "half").await.unwrap();
    pieces.send(b"half of it".as_slice().into()).await.unwrap();
    while theirs.names().is_empty() {
        tokio::task::yield_now().await;
    }
    drop((stored, pieces));
    while !theirs.names().is_empty() {
        tokio::task::yield_now().await;
    }
}
