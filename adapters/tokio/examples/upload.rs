//! Files that go up and down in pieces, with back-pressure: a slow disk slows its sender, and memory holds a
//! few pieces whatever the size of the file is.
//!
//! ```sh
//! cargo run -p getty-tokio --features rpc --example upload -- serve 127.0.0.1:7000 FOLDER
//! cargo run -p getty-tokio --features rpc --example upload -- put 127.0.0.1:7000 FILE
//! cargo run -p getty-tokio --features rpc --example upload -- get 127.0.0.1:7000 NAME > FILE
//! ```

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use getty_tokio::rpc::{self, Call, Raw, Receiver, Sender, Services, Status};
use getty_tokio::{Client, Server};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The size of a piece.
const PIECE: usize = 64 * 1024;

/// A folder of files.
#[rpc::service(name = "files.v1.Folder", codec = Raw)]
pub trait Folder {
    /// Stores a file under the name in the metadata `name`. Returns its size.
    async fn put(&self, call: &Call, pieces: &mut Receiver<Bytes>) -> Result<String, Status>;

    /// Reads the file of a name.
    #[rpc(idempotent)]
    async fn get(&self, name: String, pieces: &mut Sender<Bytes>) -> Result<(), Status>;
}

/// A folder of the file system.
struct OnDisk {
    folder: PathBuf,
    /// The number of the next upload.
    next: AtomicU64,
}

impl OnDisk {
    /// The path of a file, whose name comes from the peer: it must not lead out of the folder.
    fn path(&self, name: &str) -> Result<PathBuf, Status> {
        match Path::new(name).file_name() {
            Some(only) if only == name => Ok(self.folder.join(name)),
            _ => Err(Status::invalid_argument("expected the name of a file, without folders")),
        }
    }
}

impl Folder for OnDisk {
    async fn put(&self, call: &Call, pieces: &mut Receiver<Bytes>) -> Result<String, Status> {
        let name = call.metadata().get("name").and_then(|name| std::str::from_utf8(name).ok());
        let path = self.path(name.unwrap_or_default())?;
        // It gets its name once it is whole.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let part = Part(self.folder.join(format!(".{number}.part")));
        let size = store(&part.0, pieces).await?;
        fs::rename(&part.0, &path).await.map_err(failed)?;
        Ok(size.to_string())
    }

    async fn get(&self, name: String, pieces: &mut Sender<Bytes>) -> Result<(), Status> {
        let mut file = File::open(self.path(&name)?).await.map_err(failed)?;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            if file.read_buf(&mut piece).await.map_err(failed)? == 0 {
                return Ok(());
            }
            pieces.send(piece.into()).await?; // waits while the caller does not read
        }
    }
}

/// A file that is not whole. It goes when the call ends, also if the caller gives it up.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // it has its name, or was never made
    }
}

/// Writes what comes to a new file. Returns its size.
async fn store(path: &Path, pieces: &mut Receiver<Bytes>) -> Result<u64, Status> {
    let mut file = File::create_new(path).await.map_err(failed)?;
    let mut size = 0;
    while let Some(piece) = pieces.recv().await? {
        file.write_all(&piece).await.map_err(failed)?; // the caller waits meanwhile
        size += piece.len() as u64;
    }
    file.sync_all().await.map_err(failed)?;
    Ok(size)
}

/// The status of an error of the disk. Its text stays here: it would show paths.
fn failed(error: io::Error) -> Status {
    match error.kind() {
        io::ErrorKind::NotFound => Status::not_found("there is no such file"),
        _ => Status::internal("the disk has failed"),
    }
}

/// Serves a folder.
pub async fn serve(address: &str, folder: impl Into<PathBuf>) -> io::Result<Server> {
    let folder = OnDisk { folder: folder.into(), next: AtomicU64::new(0) };
    let services = Services::new().add(FolderService::new(folder));
    Server::builder().tcp(address, rpc::frames, move || services.listener()).await
}

/// Connects to a folder.
pub async fn connect(address: &str) -> io::Result<FolderClient> {
    let (peer, caller) = rpc::peer(Services::new());
    Client::builder().tcp(address, rpc::frames(), peer).await?;
    Ok(FolderClient::new(caller))
}

/// Sends a file. Returns the size that was stored.
pub async fn put(folder: &FolderClient, file: &Path) -> Result<String, Box<dyn Error>> {
    let name = file.file_name().ok_or("expected a file")?.to_string_lossy().into_owned();
    let mut file = File::open(file).await?;
    let (mut pieces, stored) = folder.put().metadata("name", &name).await?;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        if file.read_buf(&mut piece).await? == 0 {
            break;
        }
        if pieces.send(piece.into()).await.is_err() {
            break; // the call is over, and its answer says why
        }
    }
    pieces.finish();
    Ok(stored.await?)
}

/// Writes the file of a name to `out`.
pub async fn get(
    folder: &FolderClient,
    name: &str,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Box<dyn Error>> {
    let mut pieces = folder.get(name.to_owned()).await?;
    while let Some(piece) = pieces.recv().await? {
        out.write_all(&piece).await?;
    }
    Ok(out.flush().await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address, folder] => {
            let server = serve(address, folder).await?;
            println!("listening {}", server.local_addr());
            server.ended().await;
        }
        ["put", address, file] => {
            println!("{} bytes", put(&connect(address).await?, Path::new(file)).await?);
        }
        ["get", address, name] => get(&connect(address).await?, name, &mut tokio::io::stdout()).await?,
        _ => eprintln!("expected: serve ADDRESS FOLDER, put ADDRESS FILE, or get ADDRESS NAME"),
    }
    Ok(())
}
