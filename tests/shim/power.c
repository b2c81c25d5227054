/* What a power failure would leave of a directory, and disks that refuse: a shim for LD_PRELOAD.
 *
 * It writes to a journal how the program changes the files in ES_POWER_DIR and below it, and what it makes durable. A
 * record is a line of fields with tabs between them:
 *
 *   P                                  a process starts; its changes (W, +, -, R) are numbered from 0
 *   W inode size offset length old     before a write: the size of the file, and the number of old bytes in the range,
 *                                      which follow the line; a cut is a write up to the old end
 *   + path inode kind                  a name was created; the kind is f for a file, d for a directory
 *   - path                             a name was removed
 *   R from to                          a file was renamed
 *   S inode before                     a file was synced: its changes with lower numbers are durable
 *   D path before                      a directory was synced: changes of the names in it with lower numbers are durable
 *
 * After the program was killed, the parent takes away what the journal does not call durable: `src/crash/power.rs`. A
 * file that loses a name keeps another one in ES_POWER_KEPT, its inode number.
 *
 * The file ES_POWER_CONTROL makes calls fail while it holds one of: sync (fsync fails with EIO), write (EIO),
 * full (ENOSPC). Calls on files outside of the directory are passed on.
 *
 * A change and its record are made under a lock, so that a sync knows all changes before it, and a kill can cut off only
 * the last record. Not followed: shared mappings, files that the C library opens with fopen, and sync_file_range, which
 * makes nothing durable. What the model lacks and the program could do ends the program. */
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

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

static const char *directory, *kept, *control;
static size_t directory_len;
static int journal = -1;
/* The number of changes of this process so far. */
static unsigned long long changes;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int (*real_openat)(int, const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_fsync)(int), (*real_fdatasync)(int), (*real_ftruncate)(int, off_t);
static int (*real_renameat2)(int, const char *, int, const char *, unsigned);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_linkat)(int, const char *, int, const char *, int);
static int (*real_mkdirat)(int, const char *, mode_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static ssize_t (*real_copy_file_range)(int, off_t *, int, off_t *, size_t, unsigned);
static ssize_t (*real_sendfile)(int, int, off_t *, size_t);

static void give_up(const char *what, const char *path) {
    fprintf(stderr, "power.c: %s: %s\n", what, path);
    abort();
}

/* One write, so that a kill leaves whole lines but for the last. */
static void append(const void *bytes, size_t len) {
    if (real_write(journal, bytes, len) != (ssize_t)len) give_up("could not write the journal", strerror(errno));
}

static void note(const char *format, ...) {
    if (journal < 0) return;
    char line[2 * PATH_LEN + 64];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    append(line, (size_t)len);
}

static void set_up(void) {
    real_openat = REAL("openat64", int (*)(int, const char *, int, ...));
    real_write = REAL("write", ssize_t (*)(int, const void *, size_t));
    real_pwrite = REAL("pwrite64", ssize_t (*)(int, const void *, size_t, off_t));
    real_writev = REAL("writev", ssize_t (*)(int, const struct iovec *, int));
    real_pwritev = REAL("pwritev64", ssize_t (*)(int, const struct iovec *, int, off_t));
    real_fsync = REAL("fsync", int (*)(int));
    real_fdatasync = REAL("fdatasync", int (*)(int));
    real_ftruncate = REAL("ftruncate64", int (*)(int, off_t));
    real_renameat2 = REAL("renameat2", int (*)(int, const char *, int, const char *, unsigned));
    real_unlinkat = REAL("unlinkat", int (*)(int, const char *, int));
    real_linkat = REAL("linkat", int (*)(int, const char *, int, const char *, int));
    real_mkdirat = REAL("mkdirat", int (*)(int, const char *, mode_t));
    real_fallocate = REAL("fallocate64", int (*)(int, int, off_t, off_t));
    real_copy_file_range = REAL("copy_file_range", ssize_t (*)(int, off_t *, int, off_t *, size_t, unsigned));
    real_sendfile = REAL("sendfile64", ssize_t (*)(int, int, off_t *, size_t));
    directory = getenv("ES_POWER_DIR");
    kept = getenv("ES_POWER_KEPT");
    control = getenv("ES_POWER_CONTROL");
    directory_len = directory ? strlen(directory) : 0;
    const char *path = getenv("ES_POWER_JOURNAL");
    if (path) journal = real_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    note("P\n");
}

static void init(void) { pthread_once(&once, set_up); }
static void lock(void) { init(); pthread_mutex_lock(&mutex); }

/* Releases the lock and keeps errno. */
static void unlock(void) {
    int error = errno;
    pthread_mutex_unlock(&mutex);
    errno = error;
}

static int is_inside(const char *path) {
    return directory_len && !strncmp(path, directory, directory_len)
        && (path[directory_len] == '/' || !path[directory_len]);
}

/* The path of an open file; 0 where it is not in the directory. */
static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, PATH_LEN - 1);
    if (len <= 0) return 0;
    path[len] = 0;
    return is_inside(path);
}

/* The full path of a name in an open directory; 0 where it is not in the directory. */
static int resolve(int at, const char *name, char *path) {
    if (name[0] == '/' || at == AT_FDCWD) {
        snprintf(path, PATH_LEN, "%s", name);
        return is_inside(path);
    }
    if (!path_of(at, path)) return 0;
    size_t len = strlen(path);
    snprintf(path + len, PATH_LEN - len, "/%s", name);
    return 1;
}

static int refuses(const char *what) {
    char text[16] = {0};
    if (!control) return 0;
    int fd = real_openat(AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    return len > 0 && !strncmp(text, what, strlen(what));
}

/* Writes the record of a write to a range of an open file. */
static void note_write(int fd, const struct stat *file, off_t at, off_t len) {
    if (journal < 0 || !S_ISREG(file->st_mode)) return;
    off_t end = at + len < file->st_size ? at + len : file->st_size;
    off_t old = end > at ? end - at : 0;
    changes++;
    note("W\t%llu\t%lld\t%lld\t%lld\t%lld\n", (unsigned long long)file->st_ino, (long long)file->st_size,
        (long long)at, (long long)len, (long long)old);
    if (!old) return;
    char link[64], buffer[1 << 16];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    /* The file may be open for writing only. */
    int reader = real_openat(AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
    if (reader < 0) give_up("could not read the old content", link);
    while (old > 0) {
        ssize_t part = pread(reader, buffer, old < (off_t)sizeof buffer ? (size_t)old : sizeof buffer, at);
        if (part <= 0) give_up("could not read the old content", link);
        append(buffer, (size_t)part);
        at += part;
        old -= part;
    }
    close(reader);
}

#define OUTSIDE -1

/* Begins a write of an open file: takes the lock, and returns the error with which the write must fail. Returns OUTSIDE
 * without the lock if the file is not in the directory. A negative offset is the current one of the file. */
static int begin_write(int fd, off_t at, off_t len) {
    char path[PATH_LEN];
    struct stat file;
    init();
    if (!path_of(fd, path)) return OUTSIDE;
    lock();
    if (refuses("full")) return ENOSPC;
    if (refuses("write")) return EIO;
    if (fstat(fd, &file)) return errno;
    if (at < 0) at = fcntl(fd, F_GETFL) & O_APPEND ? file.st_size : lseek(fd, 0, SEEK_CUR);
    note_write(fd, &file, at, len);
    return 0;
}

#define WRITE(fd, at, len, type, call) \
    int error = begin_write(fd, at, len); \
    if (error == OUTSIDE) return call; \
    type result = -1; \
    if (error) errno = error; else result = call; \
    unlock(); \
    return result;

static off_t sum(const struct iovec *parts, int count) {
    off_t len = 0;
    for (int part = 0; part < count; part++) len += (off_t)parts[part].iov_len;
    return len;
}

ssize_t write(int fd, const void *bytes, size_t len) { WRITE(fd, -1, (off_t)len, ssize_t, real_write(fd, bytes, len)) }
ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t at) { WRITE(fd, at, (off_t)len, ssize_t, real_pwrite(fd, bytes, len, at)) }
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return pwrite64(fd, bytes, len, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { WRITE(fd, -1, sum(parts, count), ssize_t, real_writev(fd, parts, count)) }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { WRITE(fd, at, sum(parts, count), ssize_t, real_pwritev(fd, parts, count, at)) }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev64(fd, parts, count, at); }

int ftruncate64(int fd, off_t size) {
    struct stat file;
    init();
    off_t removed = !fstat(fd, &file) && size < file.st_size ? file.st_size - size : 0;
    WRITE(fd, size, removed, int, real_ftruncate(fd, size))
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int fallocate64(int fd, int mode, off_t at, off_t len) {
    init();
    int clears = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_WRITE_ZEROES);
    char path[PATH_LEN];
    if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE) && path_of(fd, path)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    WRITE(fd, at, clears ? len : 0, int, real_fallocate(fd, mode, at, len))
}
int fallocate(int fd, int mode, off_t at, off_t len) { return fallocate64(fd, mode, at, len); }

/* Programs copy with reads and writes if the system cannot. */
ssize_t copy_file_range(int from, off_t *from_at, int to, off_t *to_at, size_t len, unsigned flags) {
    char path[PATH_LEN];
    init();
    if (!path_of(to, path)) return real_copy_file_range(from, from_at, to, to_at, len, flags);
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile64(int to, int from, off_t *at, size_t len) {
    char path[PATH_LEN];
    init();
    if (!path_of(to, path)) return real_sendfile(to, from, at, len);
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile(int to, int from, off_t *at, size_t len) { return sendfile64(to, from, at, len); }

static int synced(int fd, int (*real)(int)) {
    char path[PATH_LEN];
    struct stat file;
    if (!path_of(fd, path)) return real(fd);
    if (refuses("sync")) {
        errno = EIO;
        return -1;
    }
    if (fstat(fd, &file)) return -1;
    lock();
    unsigned long long before = changes;
    unlock();
    int result = real(fd);
    if (result) return result;
    lock();
    if (S_ISDIR(file.st_mode)) note("D\t%s\t%llu\n", path, before);
    else note("S\t%llu\t%llu\n", (unsigned long long)file.st_ino, before);
    unlock();
    return 0;
}

int fsync(int fd) { init(); return synced(fd, real_fsync); }
int fdatasync(int fd) { init(); return synced(fd, real_fdatasync); }

/* Gives a file that may lose its last name another one. Its inode number is not used again then. */
static void keep(const char *path) {
    char name[PATH_LEN];
    struct stat file;
    if (!kept || lstat(path, &file) || S_ISDIR(file.st_mode)) return;
    snprintf(name, sizeof name, "%s/%llu", kept, (unsigned long long)file.st_ino);
    if (real_linkat(AT_FDCWD, path, AT_FDCWD, name, 0) && errno != EEXIST) give_up("could not keep a file", path);
}

static void note_name(const char *path) {
    struct stat file;
    if (lstat(path, &file)) give_up("could not inspect a new file", path);
    changes++;
    note("+\t%s\t%llu\t%c\n", path, (unsigned long long)file.st_ino, S_ISDIR(file.st_mode) ? 'd' : 'f');
}

static int opened(int at, const char *name, int flags, mode_t mode) {
    char path[PATH_LEN];
    struct stat file;
    if (!(flags & (O_CREAT | O_TRUNC)) || !resolve(at, name, path)) return real_openat(at, name, flags, mode);
    lock();
    int is_new = lstat(path, &file) != 0;
    int fd = -1;
    if (is_new && flags & O_CREAT && refuses("full")) {
        errno = ENOSPC;
    } else {
        if (!is_new && flags & O_TRUNC && file.st_size > 0) {
            int old = real_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
            if (old < 0) give_up("could not read the old content", path);
            note_write(old, &file, 0, file.st_size);
            close(old);
        }
        fd = real_openat(at, name, flags, mode);
        if (fd >= 0 && is_new) note_name(path);
    }
    unlock();
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

int mkdirat(int at, const char *name, mode_t mode) {
    char path[PATH_LEN];
    init();
    if (!resolve(at, name, path)) return real_mkdirat(at, name, mode);
    lock();
    int result = -1;
    if (refuses("full")) errno = ENOSPC;
    else if (!(result = real_mkdirat(at, name, mode))) note_name(path);
    unlock();
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int at, const char *from, int to_at, const char *to, int flags) {
    char path[PATH_LEN];
    init();
    if (!resolve(to_at, to, path)) return real_linkat(at, from, to_at, to, flags);
    lock();
    int result = real_linkat(at, from, to_at, to, flags);
    if (!result) note_name(path);
    unlock();
    return result;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char old_path[PATH_LEN], path[PATH_LEN];
    struct stat file;
    init();
    int is_from_inside = resolve(from_at, from, old_path);
    if (!resolve(to_at, to, path) && !is_from_inside) return real_renameat2(from_at, from, to_at, to, flags);
    long parent = strrchr(path, '/') - path;
    int is_modelled = is_from_inside && !strncmp(path, old_path, parent + 1) && !strchr(old_path + parent + 1, '/');
    lock();
    if (!is_modelled || flags & ~RENAME_NOREPLACE || (!lstat(old_path, &file) && S_ISDIR(file.st_mode)))
        give_up("the model has no rename of a directory or to another one", path);
    keep(path);
    int result = real_renameat2(from_at, from, to_at, to, flags);
    if (!result) {
        changes++;
        note("R\t%s\t%s\n", old_path, path);
    }
    unlock();
    return result;
}
int renameat(int from_at, const char *from, int to_at, const char *to) { return renameat2(from_at, from, to_at, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *name, int flags) {
    char path[PATH_LEN];
    init();
    if (!resolve(at, name, path)) return real_unlinkat(at, name, flags);
    lock();
    keep(path);
    int result = real_unlinkat(at, name, flags);
    if (!result) {
        changes++;
        note("-\t%s\n", path);
    }
    unlock();
    return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    struct stat file;
    return !lstat(path, &file) && S_ISDIR(file.st_mode) ? rmdir(path) : unlink(path);
}
