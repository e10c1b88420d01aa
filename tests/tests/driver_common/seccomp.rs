//! [`Filter`]: forbids some calls of the system, as sandboxes do.

use std::io;

/// Has some calls fail.
#[derive(Debug, Clone)]
pub struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Each of `calls` (`SYS_..`) fails with `errno`.
    pub fn new(calls: &[libc::c_long], errno: i32) -> Self {
        let step = |code, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
        // The number of the call.
        let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
        for &call in calls {
            program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32));
            program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno as u32));
        }
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
        Filter(program)
    }

    /// From now on they fail in this thread, and in those that it starts. There is no way back.
    pub fn install(&mut self) -> io::Result<()> {
        let program = libc::sock_fprog { len: self.0.len() as u16, filter: self.0.as_mut_ptr() };
        // SAFETY: the first takes numbers only; the second reads the program, which is there until it
        // returns.
        let result = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
