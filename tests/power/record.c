/*
 * Records what a process asks of its disk and its sockets, in order, and fails at a named place if it is told to.
 *
 * A library to be preloaded. It is in C because it takes the place of functions of the C library, which in Rust would be
 * unsafe throughout. The calls themselves are made by syscall(2), so nothing here depends on what else is preloaded.
 *
 *   SUNDOWN_POWER_ROOT   files below this directory are recorded; so is all that goes through sockets
 *   SUNDOWN_POWER_LOG    the record is appended to this file
 *   SUNDOWN_POWER_FAULT  CALL|WORDS|N|WHAT: at the Nth CALL (0: each) whose path or bytes contain WORDS (with ^ in front:
 *                        begin with) do WHAT: "skip" (of a sync: say that it is done), "fail" (of a sync or a write: EIO), "before" or
 *                        "after" (SIGKILL)
 *
 * A record is a head and two runs of bytes. A write to a file is made and recorded under one lock, so that the order of
 * the records is the order on the disk. A sync has two records, one before and one after the call: it covers what stands
 * before the first, and counts from the second on. What goes to a network peer is recorded before it goes, what comes from
 * one after it has come.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MADE = 1, WRITTEN, CUT, SYNC, SYNCED, RENAMED, REMOVED, DIRECTORY, LINKED, SAID, HEARD, SENT, GOT, ODD };

struct head {
    uint32_t kind, flags;
    uint64_t which, where;
    uint32_t first, second;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int out = -1;
static char root[PATH_MAX], fault_call[16], fault_words[64], fault_what[16];
static size_t root_length;
static unsigned long fault_at, fault_seen;
static uint64_t syncs;

static void begin(void)
{
    const char *text = getenv("SUNDOWN_POWER_ROOT"), *log = getenv("SUNDOWN_POWER_LOG");
    if (text == NULL || log == NULL)
        return;
    snprintf(root, sizeof root, "%s/", text);
    root_length = strlen(root);
    /* Programs that the process starts inherit the variables and are none of our business. */
    unsetenv("LD_PRELOAD");
    int low = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    out = syscall(SYS_fcntl, low, F_DUPFD_CLOEXEC, 900);
    if (out < 0)
        out = low;
    else
        syscall(SYS_close, low);
    text = getenv("SUNDOWN_POWER_FAULT");
    char all[160];
    if (text == NULL || snprintf(all, sizeof all, "%s", text) >= (int)sizeof all)
        return;
    char *rest = all;
    snprintf(fault_call, sizeof fault_call, "%s", strsep(&rest, "|"));
    snprintf(fault_words, sizeof fault_words, "%s", strsep(&rest, "|"));
    fault_at = strtoul(strsep(&rest, "|"), NULL, 10);
    snprintf(fault_what, sizeof fault_what, "%s", rest);
}

/* The mask of the thread that has the lock. */
static sigset_t mask;

/* A handler of a signal may write to a pipe, and would wait for the lock that its own thread has. */
static void enter(void)
{
    sigset_t all, before;
    pthread_once(&once, begin);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&lock);
    mask = before;
}

static void leave(void)
{
    int kept = errno;
    sigset_t before = mask;
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = kept;
}

/* With the lock held. */
static void record(uint32_t kind, uint32_t flags, uint64_t which, uint64_t where, const void *first, size_t n,
    const void *second, size_t m)
{
    int kept = errno;
    struct head head = { kind, flags, which, where, n, m };
    struct iovec parts[3] = { { &head, sizeof head }, { (void *)first, n }, { (void *)second, m } };
    if (out >= 0 && syscall(SYS_writev, out, parts, 3) != (long)(sizeof head + n + m)) {
        /* A record with a hole would prove anything. */
        static const char words[] = "the record cannot be written\n";
        syscall(SYS_write, 2, words, sizeof words - 1);
        abort();
    }
    errno = kept;
}

static int contains(const void *bytes, size_t n)
{
    size_t length = strlen(fault_words);
    if (fault_words[0] == '^')
        return n >= length - 1 && memcmp(bytes, fault_words + 1, length - 1) == 0;
    return memmem(bytes, n, fault_words, length) != NULL;
}

/* Whether this is the call at which to fail. */
static int is_the_place(const char *call, const void *bytes, size_t n)
{
    if (fault_call[0] == 0 || strcmp(call, fault_call) != 0 || !contains(bytes, n))
        return 0;
    unsigned long seen = __atomic_add_fetch(&fault_seen, 1, __ATOMIC_SEQ_CST);
    return fault_at == 0 || seen == fault_at;
}

static void die_if(int place, const char *when)
{
    if (!place || strcmp(fault_what, when) != 0)
        return;
    /* Nobody is between a call and its record then. */
    enter();
    for (;;)
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

/* The whole path, if it is one that is recorded. What is mapped into memory is made anew after a crash. */
static const char *path_of(int at, const char *path, char *whole)
{
    pthread_once(&once, begin);
    if (root_length == 0 || path == NULL)
        return NULL;
    if (path[0] == '/') {
        if (snprintf(whole, PATH_MAX, "%s", path) >= PATH_MAX)
            return NULL;
    } else {
        char here[64], base[PATH_MAX];
        if (at == AT_FDCWD)
            snprintf(here, sizeof here, "/proc/self/cwd");
        else
            snprintf(here, sizeof here, "/proc/self/fd/%d", at);
        ssize_t n = readlink(here, base, sizeof base - 1);
        if (n < 0)
            return NULL;
        base[n] = 0;
        if (snprintf(whole, PATH_MAX, "%.2000s/%.2000s", base, path) >= PATH_MAX)
            return NULL;
    }
    size_t n = strlen(whole);
    while (n > 1 && whole[n - 1] == '/')
        whole[--n] = 0;
    if (n == root_length - 1 && strncmp(whole, root, n) == 0)
        return whole + n;
    if (strncmp(whole, root, root_length) != 0 || (n > 4 && strcmp(whole + n - 4, "-shm") == 0))
        return NULL;
    return whole + root_length;
}

/* What a descriptor is: a recorded file (its path and inode), a socket (its cookie and family), or neither. */
enum what { NOTHING, IN_ROOT, PEER, NETWORK };

static enum what look(int fd, uint64_t *which, int *directory, char *whole, const char **path)
{
    struct stat found;
    pthread_once(&once, begin);
    if (out < 0 || fd == out || syscall(SYS_fstat, fd, &found) != 0)
        return NOTHING;
    if (S_ISSOCK(found.st_mode)) {
        int family = 0;
        socklen_t length = sizeof family;
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length);
        length = sizeof *which;
        getsockopt(fd, SOL_SOCKET, SO_COOKIE, which, &length);
        return family == AF_UNIX ? PEER : family == AF_INET || family == AF_INET6 ? NETWORK : NOTHING;
    }
    if (!S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode))
        return NOTHING;
    char here[64], name[PATH_MAX];
    snprintf(here, sizeof here, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(here, name, sizeof name - 1);
    if (n < 0)
        return NOTHING;
    name[n] = 0;
    *path = path_of(AT_FDCWD, name, whole);
    *which = found.st_ino;
    *directory = S_ISDIR(found.st_mode);
    return *path == NULL ? NOTHING : IN_ROOT;
}

#define LOOK(fd) \
    int kept = errno, directory = 0; \
    uint64_t which = 0; \
    char whole[PATH_MAX]; \
    const char *path = ""; \
    enum what what = look(fd, &which, &directory, whole, &path); \
    (void)directory; \
    errno = kept

static int open_at(int at, const char *name, int flags, mode_t mode)
{
    char whole[PATH_MAX];
    const char *path = flags & (O_CREAT | O_TRUNC) ? path_of(at, name, whole) : NULL;
    if (path == NULL)
        return syscall(SYS_openat, at, name, flags, mode);
    enter();
    int fd = syscall(SYS_openat, at, name, flags, mode);
    struct stat found;
    if (fd >= 0 && syscall(SYS_fstat, fd, &found) == 0 && S_ISREG(found.st_mode))
        record(MADE, (flags & O_TRUNC) != 0, found.st_ino, 0, path, strlen(path), "", 0);
    leave();
    return fd;
}

#define MODE(flags, mode) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *name, int flags, ...) { MODE(flags, mode) return open_at(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags, mode) return open_at(AT_FDCWD, name, flags, mode); }
int openat(int at, const char *name, int flags, ...) { MODE(flags, mode) return open_at(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE(flags, mode) return open_at(at, name, flags, mode); }
int creat(const char *name, mode_t mode) { return open_at(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

static ssize_t put(int fd, const void *bytes, size_t n, long call, int flags, off_t at)
{
    LOOK(fd);
    int place = 0;
    ssize_t done;
    if (what == NETWORK) {
        place = is_the_place("send", bytes, n);
        die_if(place, "before");
        enter();
        record(SENT, 0, which, 0, bytes, n, "", 0);
        leave();
    } else if (what == IN_ROOT) {
        place = is_the_place("write", path, strlen(path));
        if (place && strcmp(fault_what, "fail") == 0) {
            errno = EIO;
            return -1;
        }
        die_if(place, "before");
    }
    if (what == IN_ROOT || what == PEER)
        enter();
    if (call == SYS_pwrite64)
        done = syscall(call, fd, bytes, n, at);
    else if (call == SYS_sendto)
        done = syscall(call, fd, bytes, n, flags, NULL, 0);
    else
        done = syscall(call, fd, bytes, n);
    if (what == IN_ROOT && done > 0) {
        if (call != SYS_pwrite64)
            at = syscall(SYS_lseek, fd, 0, SEEK_CUR) - done;
        record(WRITTEN, 0, which, at, bytes, done, path, strlen(path));
    } else if (what == PEER && done > 0)
        record(SAID, 0, which, 0, bytes, done, "", 0);
    if (what == IN_ROOT || what == PEER)
        leave();
    die_if(place, "after");
    return done;
}

ssize_t write(int fd, const void *bytes, size_t n) { return put(fd, bytes, n, SYS_write, 0, 0); }
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) { return put(fd, bytes, n, SYS_pwrite64, 0, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) { return put(fd, bytes, n, SYS_pwrite64, 0, at); }
ssize_t send(int fd, const void *bytes, size_t n, int flags) { return put(fd, bytes, n, SYS_sendto, flags, 0); }

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    /* A short write is legal, so that the first part alone will do. */
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len > 0)
            return put(fd, parts[i].iov_base, parts[i].iov_len, SYS_write, 0, 0);
    return syscall(SYS_writev, fd, parts, count);
}

static ssize_t take(int fd, void *bytes, size_t n, long call, int flags)
{
    ssize_t done = call == SYS_recvfrom ? syscall(call, fd, bytes, n, flags, NULL, NULL) : syscall(call, fd, bytes, n);
    if (done <= 0 || flags & MSG_PEEK)
        return done;
    LOOK(fd);
    if (what == PEER || what == NETWORK) {
        enter();
        record(what == PEER ? HEARD : GOT, 0, which, 0, bytes, done, "", 0);
        leave();
    }
    if (what == NETWORK)
        die_if(is_the_place("recv", bytes, done), "after");
    return done;
}

ssize_t read(int fd, void *bytes, size_t n) { return take(fd, bytes, n, SYS_read, 0); }
ssize_t recv(int fd, void *bytes, size_t n, int flags) { return take(fd, bytes, n, SYS_recvfrom, flags); }

static int sync_file(int fd, long call)
{
    LOOK(fd);
    if (what != IN_ROOT)
        return syscall(call, fd);
    int place = is_the_place("sync", path, strlen(path));
    if (place && strcmp(fault_what, "skip") == 0)
        return 0;
    if (place && strcmp(fault_what, "fail") == 0) {
        errno = EIO;
        return -1;
    }
    die_if(place, "before");
    enter();
    uint64_t mine = ++syncs;
    record(SYNC, directory, which, mine, path, strlen(path), "", 0);
    leave();
    int done = syscall(call, fd);
    if (done == 0) {
        enter();
        record(SYNCED, directory, which, mine, path, strlen(path), "", 0);
        leave();
    }
    die_if(place, "after");
    return done;
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

static int resize(int fd, off_t size)
{
    LOOK(fd);
    if (what != IN_ROOT)
        return syscall(SYS_ftruncate, fd, size);
    enter();
    int done = syscall(SYS_ftruncate, fd, size);
    if (done == 0)
        record(CUT, 0, which, size, path, strlen(path), "", 0);
    leave();
    return done;
}

int ftruncate(int fd, off_t size) { return resize(fd, size); }
int ftruncate64(int fd, off64_t size) { return resize(fd, size); }

static int two_names(uint32_t kind, int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    char whole_from[PATH_MAX], whole_to[PATH_MAX];
    const char *a = path_of(from_at, from, whole_from), *b = path_of(to_at, to, whole_to);
    int place = b != NULL && is_the_place(kind == RENAMED ? "rename" : "link", b, strlen(b));
    die_if(place, "before");
    enter();
    int done = kind == RENAMED ? syscall(SYS_renameat2, from_at, from, to_at, to, flags)
                               : syscall(SYS_linkat, from_at, from, to_at, to, flags);
    if (done == 0 && (a != NULL || b != NULL)) {
        /* Into the recorded directory from elsewhere, or the other way round, is nothing that could be replayed. */
        uint32_t known = a != NULL && b != NULL ? kind : (uint32_t)ODD;
        record(known, 0, 0, 0, a ? a : "", a ? strlen(a) : 0, b ? b : "", b ? strlen(b) : 0);
    }
    leave();
    die_if(place, "after");
    return done;
}

int rename(const char *a, const char *b) { return two_names(RENAMED, AT_FDCWD, a, AT_FDCWD, b, 0); }
int renameat(int at, const char *a, int to, const char *b) { return two_names(RENAMED, at, a, to, b, 0); }
int renameat2(int at, const char *a, int to, const char *b, unsigned flags) { return two_names(RENAMED, at, a, to, b, flags); }
int link(const char *a, const char *b) { return two_names(LINKED, AT_FDCWD, a, AT_FDCWD, b, 0); }
int linkat(int at, const char *a, int to, const char *b, int flags) { return two_names(LINKED, at, a, to, b, flags); }

static int one_name(uint32_t kind, int at, const char *name, int extra)
{
    char whole[PATH_MAX];
    const char *path = path_of(at, name, whole);
    int place = path != NULL && is_the_place(kind == REMOVED ? "remove" : "mkdir", path, strlen(path));
    die_if(place, "before");
    enter();
    int done = syscall(kind == REMOVED ? SYS_unlinkat : SYS_mkdirat, at, name, extra);
    if (done == 0 && path != NULL)
        record(kind, 0, 0, 0, path, strlen(path), "", 0);
    leave();
    die_if(place, "after");
    return done;
}

int unlink(const char *name) { return one_name(REMOVED, AT_FDCWD, name, 0); }
int unlinkat(int at, const char *name, int flags) { return one_name(REMOVED, at, name, flags); }
int rmdir(const char *name) { return one_name(REMOVED, AT_FDCWD, name, AT_REMOVEDIR); }
int mkdir(const char *name, mode_t mode) { return one_name(DIRECTORY, AT_FDCWD, name, mode); }
int mkdirat(int at, const char *name, mode_t mode) { return one_name(DIRECTORY, at, name, mode); }

/* Ways to change a file that are not replayed. Nobody takes them; if somebody does one day, it is seen. */
static void odd(int fd, const char *words)
{
    LOOK(fd);
    if (what != IN_ROOT)
        return;
    enter();
    record(ODD, 0, which, 0, path, strlen(path), words, strlen(words));
    leave();
}

static void *map(void *address, size_t length, int access, int flags, int fd, off_t offset)
{
    if (fd >= 0 && access & PROT_WRITE && flags & MAP_SHARED)
        odd(fd, "mmap");
    return (void *)syscall(SYS_mmap, address, length, access, flags, fd, offset);
}

void *mmap(void *a, size_t n, int access, int flags, int fd, off_t at) { return map(a, n, access, flags, fd, at); }
void *mmap64(void *a, size_t n, int access, int flags, int fd, off64_t at) { return map(a, n, access, flags, fd, at); }

int fallocate(int fd, int mode, off_t at, off_t n) { odd(fd, "fallocate"); return syscall(SYS_fallocate, fd, mode, at, n); }
int fallocate64(int fd, int mode, off64_t at, off64_t n) { odd(fd, "fallocate"); return syscall(SYS_fallocate, fd, mode, at, n); }

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    odd(fd, "pwritev");
    return syscall(SYS_pwritev, fd, parts, count, at, 0);
}

ssize_t copy_file_range(int in, off64_t *from, int to, off64_t *at, size_t n, unsigned flags)
{
    odd(to, "copy_file_range");
    return syscall(SYS_copy_file_range, in, from, to, at, n, flags);
}

ssize_t sendfile64(int to, int in, off64_t *at, size_t n)
{
    odd(to, "sendfile");
    return syscall(SYS_sendfile, to, in, at, n);
}

ssize_t sendfile(int to, int in, off_t *at, size_t n) { return sendfile64(to, in, at, n); }
