//! Where the door is, and who can reach it: the user of the worker alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{ConfigFile, resolve},
    guests::{Guest, Listener},
    lock,
};

/// The folder of a door.
pub(super) struct Place {
    folder: PathBuf,
}

/// A door that is open: it is gone from the disk when this is dropped.
#[derive(Debug)]
pub(super) struct Open {
    folder: PathBuf,
}

/// What others must name who want in, where the system does not keep them out.
pub(super) type Token = Option<String>;

impl Place {
    /// The place that belongs to a configuration.
    pub(super) fn of(config: &ConfigFile) -> Self {
        Self { folder: lock::beside(&resolve(config.path()), "door") }
    }

    /// Opens it. Another one that was left here is removed: whoever holds the lock of the configuration may do that.
    pub(super) fn open(&self) -> io::Result<(Arc<dyn Listener>, Token, Open)> {
        make_private(&self.folder)?;
        let open = Open { folder: self.folder.clone() };
        let (listener, token) = system::listen(&self.folder)?;
        Ok((listener, token, open))
    }

    /// Goes there.
    pub(super) fn enter(&self) -> io::Result<(Box<dyn Guest>, Token)> {
        system::connect(&self.folder)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // What is left is removed by the next one.
        let _ = fs::remove_file(self.folder.join(system::NAME));
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Makes a folder that only its owner can enter, also where it is there already.
fn make_private(folder: &Path) -> io::Result<()> {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "elsewhere folders have no mode"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !fs::symlink_metadata(folder)?.is_dir() {
        let what = format!("{} is no folder", folder.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    #[cfg(unix)]
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

/// Removes what an earlier door left.
fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
use socket as system;

#[cfg(not(unix))]
use port as system;

/// A socket in the file system, which keeps others out.
#[cfg(unix)]
mod socket {
    use std::{
        fs::File,
        os::unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    };

    use super::{Arc, Guest, Listener, Path, PathBuf, Token, clear, fs, io};

    pub(super) const NAME: &str = "socket";
    /// What fits into the address of a socket on every system.
    const LONGEST: usize = 100;

    pub(super) fn listen(folder: &Path) -> io::Result<(Arc<dyn Listener>, Token)> {
        clear(&folder.join(NAME))?;
        let short = Short::of(folder)?;
        let listener = UnixListener::bind(&short.path)?;
        fs::set_permissions(folder.join(NAME), fs::Permissions::from_mode(0o600))?;
        Ok((Arc::new(Socket { listener, folder: folder.to_owned() }), None))
    }

    pub(super) fn connect(folder: &Path) -> io::Result<(Box<dyn Guest>, Token)> {
        let short = Short::of(folder)?;
        Ok((Box::new(UnixStream::connect(&short.path)?), None))
    }

    struct Socket {
        listener: UnixListener,
        folder: PathBuf,
    }

    impl Listener for Socket {
        fn accept(&self) -> io::Result<Box<dyn Guest>> {
            let (stream, _) = self.listener.accept()?;
            Ok(Box::new(stream))
        }

        fn knock(&self) {
            let _ = connect(&self.folder);
        }
    }

    /// A path to the socket that is short enough.
    struct Short {
        path: PathBuf,
        /// What such a path leads through.
        _folder: Option<File>,
    }

    impl Short {
        fn of(folder: &Path) -> io::Result<Self> {
            let path = folder.join(NAME);
            if path.as_os_str().len() <= LONGEST {
                return Ok(Self { path, _folder: None });
            }
            if !cfg!(target_os = "linux") {
                let what = format!(
                    "the path {} is longer than that of a socket can be ({LONGEST} bytes)",
                    path.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            let opened = File::open(folder)?;
            let number = std::os::fd::AsRawFd::as_raw_fd(&opened);
            let path = PathBuf::from(format!("/proc/self/fd/{number}")).join(NAME);
            Ok(Self { path, _folder: Some(opened) })
        }
    }
}

/// A port of this machine: others can reach it, and don't know the token.
#[cfg(any(not(unix), test))]
mod port {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::{Arc, Guest, Listener, Path, Token, clear, fs, io};

    pub(super) const NAME: &str = "port";

    pub(super) fn listen(folder: &Path) -> io::Result<(Arc<dyn Listener>, Token)> {
        clear(&folder.join(NAME))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let seed = studio_worker_core::transport::seed().map_err(io::Error::other)?;
        let token = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, seed);
        let mut file = tempfile::Builder::new().tempfile_in(folder)?;
        let said = format!("{}\n{token}\n", listener.local_addr()?.port());
        io::Write::write_all(&mut file, said.as_bytes())?;
        file.persist(folder.join(NAME)).map_err(|error| error.error)?;
        Ok((Arc::new(listener), Some(token)))
    }

    pub(super) fn connect(folder: &Path) -> io::Result<(Box<dyn Guest>, Token)> {
        let said = fs::read_to_string(folder.join(NAME))?;
        let mut lines = said.lines();
        let port = lines.next().and_then(|port| port.parse::<u16>().ok());
        let (Some(port), Some(token)) = (port, lines.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        Ok((Box::new(stream), Some(token.to_owned())))
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::fs::PermissionsExt as _,
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// Whether a word goes from one side to the other.
    fn is_heard(listener: &Arc<dyn Listener>, mut guest: Box<dyn Guest>) {
        let accepting = Arc::clone(listener);
        let heard = thread::spawn(move || {
            let (mut guest, mut word) = (accepting.accept().unwrap(), [0; 5]);
            guest.read_exact(&mut word).unwrap();
            word
        });
        guest.write_all(b"hello").unwrap();
        assert_eq!(&heard.join().unwrap(), b"hello");
    }

    #[test]
    fn nobody_else_can_enter_whatever_was_there_and_however_long_the_path_is() {
        for depth in [0, 5] {
            let home = tempfile::tempdir().unwrap();
            let deep = (0..depth).fold(home.path().to_owned(), |path, _| path.join("a".repeat(40)));
            fs::create_dir_all(&deep).unwrap();
            let config = deep.join("config.toml");
            fs::write(&config, "").unwrap();
            let place = Place::of(&ConfigFile::locate(Some(&config)).unwrap());
            assert_eq!(place.folder, fs::canonicalize(&deep).unwrap().join(".config.toml.door"));
            assert_eq!(place.enter().err().unwrap().kind(), io::ErrorKind::NotFound);

            // A folder that is open to everybody, with a socket that nobody listens on.
            fs::create_dir(&place.folder).unwrap();
            fs::set_permissions(&place.folder, fs::Permissions::from_mode(0o777)).unwrap();
            if depth == 0 {
                drop(std::os::unix::net::UnixListener::bind(place.folder.join("socket")).unwrap());
                // A program that another test is about to start has it, too, until it is that program.
                let end = Instant::now() + Duration::from_secs(30);
                let shut = loop {
                    match place.enter() {
                        Err(error) => break error,
                        Ok(_) => assert!(Instant::now() < end, "somebody listens"),
                    }
                    thread::sleep(Duration::from_millis(5));
                };
                assert_eq!(shut.kind(), io::ErrorKind::ConnectionRefused);
            }
            let (listener, token, open) = place.open().unwrap();
            assert_eq!(token, None);
            assert_eq!((mode(&place.folder), mode(&place.folder.join("socket"))), (0o700, 0o600));
            is_heard(&listener, place.enter().unwrap().0);
            drop(open);
            assert!(!place.folder.exists(), "nothing is left");
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_folder_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config.toml");
        fs::write(&config, "").unwrap();
        fs::create_dir(home.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", home.path().join(".config.toml.door")).unwrap();
        let place = Place::of(&ConfigFile::locate(Some(&config)).unwrap());
        let Err(error) = place.open() else { panic!("it was followed") };
        assert!(error.to_string().contains("is no folder"), "{error}");
    }

    #[test]
    fn a_port_is_told_with_its_token_to_those_who_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let (listener, token) = port::listen(folder.path()).unwrap();
        assert_eq!(mode(&folder.path().join("port")), 0o600);
        let (guest, named) = port::connect(folder.path()).unwrap();
        assert_eq!(token.as_ref().map(String::len), Some(43));
        assert_eq!(token, named);
        is_heard(&listener, guest);
    }
}
