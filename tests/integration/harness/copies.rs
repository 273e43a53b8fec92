//! A process with copies of the client library, each loaded from a file of its own.

use std::ffi::{CString, c_char};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{Home, Lines};

/// Says to the test binary that it is the process with the copies.
const IS_CHILD: &str = "SUNDOWN_TEST_COPIES";

/// The process. It is killed at the end of its test.
pub(crate) struct Copies {
    child: Child,
    input: ChildStdin,
    output: Lines,
    asked: u64,
}

impl Copies {
    /// One with so many copies, which are called 0, 1 and so on.
    pub(crate) fn start(home: &Home, number: usize) -> Self {
        let files = (0..number).map(|copy| {
            let file = home.path(&format!("copy-{copy}.so"));
            std::fs::copy(addin(), &file).expect("copied");
            file
        });
        let mut command = Command::new(std::env::current_exe().expect("it has a path"));
        command.args(["--exact", "copies::a_process_with_copies", "--nocapture"]);
        let files = std::env::join_paths(files).expect("paths without a colon");
        command.env(IS_CHILD, files).current_dir(home.path(""));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let input = child.stdin.take().expect("it is a pipe");
        let output = Lines::of(child.stdout.take().expect("it is a pipe"));
        Self { child, input, output, asked: 0 }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What a copy answers to a command.
    pub(crate) fn ask(&mut self, copy: usize, command: &str) -> String {
        let number = self.tell(copy, command);
        self.answer(number)
    }

    /// Gives a copy a command, and does not wait.
    pub(crate) fn tell(&mut self, copy: usize, command: &str) -> u64 {
        self.asked += 1;
        writeln!(self.input, "{copy} {command}").expect("it reads");
        self.asked
    }

    /// The answer with that number.
    pub(crate) fn answer(&self, number: u64) -> String {
        let begin = format!("answer {number}: ");
        self.output.find(&begin, 0, |line| line.strip_prefix(&begin).map(str::to_owned))
    }

    /// What a copy answers to a command that must succeed.
    pub(crate) fn ok(&mut self, copy: usize, command: &str) -> String {
        let answer = self.ask(copy, command);
        let ok = answer.strip_prefix("ok").unwrap_or_else(|| panic!("{copy} {command}: {answer}"));
        ok.trim().to_owned()
    }

    /// The words of a failure with that code.
    pub(crate) fn fails(&mut self, copy: usize, command: &str, code: &str) -> String {
        let answer = self.ask(copy, command);
        let why = answer.strip_prefix(code);
        why.unwrap_or_else(|| panic!("{copy} {command}: {answer}, not {code}")).trim().to_owned()
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the copies said:\n{}", self.output.all().join("\n"));
        }
    }
}

/// The add-in that is built with the tests.
fn addin() -> PathBuf {
    let tests = std::env::current_exe().expect("it has a path");
    tests.with_file_name("libsundown_test_addin.so")
}

/// What the process with the copies does: it carries out commands until its input ends. In any other process it does nothing.
pub(crate) fn carry_out_if_asked() {
    let Some(files) = std::env::var_os(IS_CHILD) else { return };
    let copies: Vec<_> = std::env::split_paths(&files).map(|file| Copy::load(&file)).collect();
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.expect("it can be read");
        let (copy, command) = line.split_once(' ').expect("a copy and a command");
        let copy = &copies[copy.parse::<usize>().expect("the number of a copy")];
        // What the harness of tests says may stand at the beginning of a line.
        println!("\nanswer {}: {}", number + 1, copy.carry_out(command));
    }
    std::process::exit(0);
}

/// What an add-in has.
type Function = unsafe extern "C" fn(*const c_char, *mut u8, usize) -> usize;

/// One copy.
struct Copy {
    function: Function,
}

#[allow(unsafe_code)]
impl Copy {
    fn load(file: &Path) -> Self {
        let name = CString::new(file.as_os_str().as_encoded_bytes()).expect("no zero in it");
        // SAFETY: the names are strings that end with a zero; what is loaded is the add-in of this test, which does nothing by
        // being loaded, and is never unloaded; its function has this type.
        unsafe {
            let library = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!library.is_null(), "{} cannot be loaded", file.display());
            let function = libc::dlsym(library, c"sundown_test_addin".as_ptr());
            assert!(!function.is_null(), "{} has no such function", file.display());
            Self { function: std::mem::transmute::<*mut libc::c_void, Function>(function) }
        }
    }

    fn carry_out(&self, command: &str) -> String {
        let command = CString::new(command).expect("no zero in it");
        let mut answer = vec![0; 64 << 10];
        // SAFETY: the command ends with a zero, and there is so much room.
        let length =
            unsafe { (self.function)(command.as_ptr(), answer.as_mut_ptr(), answer.len()) };
        answer.truncate(length);
        String::from_utf8_lossy(&answer).into_owned()
    }
}
