/* What a power failure would leave of a directory, and disks that refuse: a shim for LD_PRELOAD.
 *
 * It keeps a journal of what the program made durable in ES_POWER_DIR, one line each:
 *
 *   C path            a file was created
 *   S path length     a file was synced, with at least this length
 *   D path            a directory was synced: the names in it are durable
 *   R from to kept    a file was renamed; what stood under the new name is kept under a third one, or "-"
 *   U path kept       a file was removed; it is kept under another name
 *   T path length     a file was cut
 *
 * After the program was killed, the parent takes away what the journal does not call durable.
 *
 * The file ES_POWER_CONTROL makes calls fail while it holds one of: sync (fsync fails with EIO), write (EIO),
 * full (ENOSPC). Calls on files outside of the directory are passed on.
 *
 * Lengths are read before the sync, so that a write that comes in between does not count. Overwriting in place is not
 * followed; the parent knows the one file where that happens. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PATH_LEN 4096
#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

static const char *directory, *journal_path, *control;
static size_t directory_len;
static int journal = -1;
static int kept_files;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int (*real_open)(const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_fsync)(int), (*real_fdatasync)(int), (*real_ftruncate)(int, off_t);
static int (*real_rename)(const char *, const char *), (*real_unlink)(const char *);
static int (*real_fallocate)(int, int, off_t, off_t);

static void set_up(void) {
    real_open = REAL("open", int (*)(const char *, int, ...));
    real_write = REAL("write", ssize_t (*)(int, const void *, size_t));
    real_pwrite = REAL("pwrite64", ssize_t (*)(int, const void *, size_t, off_t));
    real_writev = REAL("writev", ssize_t (*)(int, const struct iovec *, int));
    real_pwritev = REAL("pwritev64", ssize_t (*)(int, const struct iovec *, int, off_t));
    real_fsync = REAL("fsync", int (*)(int));
    real_fdatasync = REAL("fdatasync", int (*)(int));
    real_ftruncate = REAL("ftruncate64", int (*)(int, off_t));
    real_rename = REAL("rename", int (*)(const char *, const char *));
    real_unlink = REAL("unlink", int (*)(const char *));
    real_fallocate = REAL("fallocate64", int (*)(int, int, off_t, off_t));
    directory = getenv("ES_POWER_DIR");
    journal_path = getenv("ES_POWER_JOURNAL");
    control = getenv("ES_POWER_CONTROL");
    directory_len = directory ? strlen(directory) : 0;
    if (journal_path) journal = real_open(journal_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void init(void) { pthread_once(&once, set_up); }

static int is_inside(const char *path) { return directory_len && !strncmp(path, directory, directory_len); }

/* The path of an open file; 0 where it is not in the directory. */
static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, PATH_LEN - 1);
    if (len <= 0) return 0;
    path[len] = 0;
    return is_inside(path);
}

/* One write, so that a kill leaves whole lines but for the last. */
static void note(const char *format, ...) {
    if (journal < 0) return;
    char line[3 * PATH_LEN + 64];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len > 0 && real_write(journal, line, (size_t)len) != len) abort();
}

static int refuses(const char *what) {
    char text[16] = {0};
    if (!control) return 0;
    int fd = real_open(control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    return len > 0 && !strncmp(text, what, strlen(what));
}

/* Whether a write to this file must fail, and with what. */
static int write_error(int fd) {
    char path[PATH_LEN];
    if (!control || !path_of(fd, path)) return 0;
    return refuses("full") ? ENOSPC : refuses("write") ? EIO : 0;
}

static int synced(int fd, int (*real)(int)) {
    char path[PATH_LEN];
    struct stat before;
    if (!path_of(fd, path)) return real(fd);
    if (refuses("sync")) {
        errno = EIO;
        return -1;
    }
    if (fstat(fd, &before)) return -1;
    int result = real(fd);
    if (!result && S_ISDIR(before.st_mode)) note("D %s\n", path);
    else if (!result) note("S %s %lld\n", path, (long long)before.st_size);
    return result;
}

/* Keeps a file under another name, beside the journal. */
static void keep(const char *path, char *kept) {
    int number = __atomic_add_fetch(&kept_files, 1, __ATOMIC_RELAXED);
    snprintf(kept, PATH_LEN, "%s.%d.%d", journal_path ? journal_path : "", (int)getpid(), number);
    if (!journal_path || link(path, kept)) strcpy(kept, "-");
}

int fsync(int fd) { init(); return synced(fd, real_fsync); }
int fdatasync(int fd) { init(); return synced(fd, real_fdatasync); }

/* NOTE: sync_file_range makes nothing durable, and is left alone. */

int rename(const char *from, const char *to) {
    init();
    char kept[PATH_LEN] = "-";
    if (is_inside(to)) keep(to, kept);
    int result = real_rename(from, to);
    if (!result && is_inside(to)) note("R %s %s %s\n", from, to, kept);
    return result;
}

int unlink(const char *path) {
    init();
    char kept[PATH_LEN] = "-";
    if (is_inside(path)) keep(path, kept);
    int result = real_unlink(path);
    if (!result && is_inside(path)) note("U %s %s\n", path, kept);
    return result;
}

static int opened(int at, const char *path, int flags, mode_t mode) {
    int was_there = access(path, F_OK) == 0;
    int is_new = is_inside(path) && (flags & O_CREAT) && !was_there;
    int (*real)(int, const char *, int, ...) = REAL("openat64", int (*)(int, const char *, int, ...));
    if (is_new && refuses("full")) {
        errno = ENOSPC;
        return -1;
    }
    int fd = real(at, path, flags, mode);
    if (fd >= 0 && is_new) note("C %s\n", path);
    if (fd >= 0 && is_inside(path) && (flags & O_TRUNC) && was_there) note("T %s 0\n", path);
    return fd;
}

#define MODE(flags) mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list args; va_start(args, flags); mode = va_arg(args, mode_t); va_end(args); }

int open(const char *path, int flags, ...) { init(); MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { init(); MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { init(); MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { init(); MODE(flags) return opened(at, path, flags, mode); }
int creat(const char *path, mode_t mode) { init(); return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

#define FAIL_IF_TOLD(fd) init(); int error = write_error(fd); if (error) { errno = error; return -1; }

ssize_t write(int fd, const void *bytes, size_t len) { FAIL_IF_TOLD(fd) return real_write(fd, bytes, len); }
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { FAIL_IF_TOLD(fd) return real_pwrite(fd, bytes, len, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t at) { FAIL_IF_TOLD(fd) return real_pwrite(fd, bytes, len, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { FAIL_IF_TOLD(fd) return real_writev(fd, parts, count); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { FAIL_IF_TOLD(fd) return real_pwritev(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { FAIL_IF_TOLD(fd) return real_pwritev(fd, parts, count, at); }

static int cut(int fd, off_t len) {
    char path[PATH_LEN];
    int result = real_ftruncate(fd, len);
    if (!result && path_of(fd, path)) note("T %s %lld\n", path, (long long)len);
    return result;
}
int ftruncate(int fd, off_t len) { FAIL_IF_TOLD(fd) return cut(fd, len); }
int ftruncate64(int fd, off_t len) { FAIL_IF_TOLD(fd) return cut(fd, len); }
int fallocate(int fd, int mode, off_t at, off_t len) { FAIL_IF_TOLD(fd) return real_fallocate(fd, mode, at, len); }
int fallocate64(int fd, int mode, off_t at, off_t len) { FAIL_IF_TOLD(fd) return real_fallocate(fd, mode, at, len); }
