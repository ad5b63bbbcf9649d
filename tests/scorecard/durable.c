/* A disk that can lose power: preloaded into a process, it keeps a second copy of the files in one directory, and that
 * copy takes only what was fsynced. Killed at any instant, the process leaves there what a power cut would have left.
 *
 *   DURABLE_DIR   the directory that is watched (without its subdirectories)
 *   DURABLE_COPY  the copy: "N" files by number, "names" which number each name has since the directory was synced
 *
 * A file "full" in DURABLE_COPY makes writes fail with ENOSPC, a file "broken" makes fsync fail with EIO.
 * Files ending in -shm are not kept: SQLite maps them, and makes them anew. Linux and glibc.
 */
#define _GNU_SOURCE
#include <dirent.h>
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
#include <unistd.h>

#define MOST_FILES 256
#define MOST_FDS 4096
#define MOST_DIRTY 65536

struct range { off_t from, to; };
struct kept {
    dev_t device; ino_t inode; int number; int used;
    off_t shortest;              /* it was cut to this since the last sync; -1: it was not */
    struct range *dirty; int dirty_count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept files[MOST_FILES];
static int by_fd[MOST_FDS];      /* index into files + 1; -1: the directory itself; 0: not ours */
static int next_number = 1;
static char watched[PATH_MAX], copy[PATH_MAX];

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_unlink)(const char *);

static void die(const char *what)
{
    fprintf(stderr, "durable.c: %s: %s\n", what, strerror(errno));
    abort();
}

static const char *name_in(const char *path)
{
    size_t length = strlen(watched);
    if (!length || strncmp(path, watched, length) || path[length] != '/' || strchr(path + length + 1, '/'))
        return NULL;
    return path + length + 1;
}

static int is_shm(const char *name)
{
    size_t length = strlen(name);
    return length > 4 && !strcmp(name + length - 4, "-shm");
}

static struct kept *known(const struct stat *status, int number)
{
    struct kept *unused = NULL;
    for (int i = 0; i < MOST_FILES; i++) {
        if (files[i].used && files[i].device == status->st_dev && files[i].inode == status->st_ino)
            return &files[i];
        if (!files[i].used && !unused)
            unused = &files[i];
    }
    if (!unused)
        die("too many files");
    if (!unused->dirty && !(unused->dirty = malloc(MOST_DIRTY * sizeof(struct range))))
        die("malloc");
    unused->used = 1;
    unused->device = status->st_dev;
    unused->inode = status->st_ino;
    unused->number = number ? number : next_number++;
    unused->shortest = -1;
    unused->dirty_count = 0;
    return unused;
}

__attribute__((constructor)) static void start(void)
{
    char path[PATH_MAX + 300], name[256];
    int number;
    real_open = dlsym(RTLD_NEXT, "open64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    const char *directory = getenv("DURABLE_DIR"), *kept_in = getenv("DURABLE_COPY");
    if (!directory || !kept_in)
        return;
    snprintf(copy, sizeof copy, "%s", kept_in);
    snprintf(watched, sizeof watched, "%s", directory);
    snprintf(path, sizeof path, "%s/names", copy);
    FILE *names = fopen(path, "r");
    while (names && fscanf(names, "%d %255s", &number, name) == 2) {
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", watched, name);
        if (number >= next_number)
            next_number = number + 1;
        if (!stat(path, &status))
            known(&status, number);
    }
    if (names)
        fclose(names);
}

static int told(const char *what)
{
    char path[PATH_MAX + 300];
    snprintf(path, sizeof path, "%s/%s", copy, what);
    return copy[0] && !access(path, F_OK);
}

static struct kept *of_fd(int fd)
{
    return fd >= 0 && fd < MOST_FDS && by_fd[fd] > 0 ? &files[by_fd[fd] - 1] : NULL;
}

static void note_open(int fd, const char *path)
{
    struct stat status;
    const char *name = name_in(path);
    if (fd < 0 || fd >= MOST_FDS)
        return;
    pthread_mutex_lock(&lock);
    by_fd[fd] = 0;
    if (watched[0] && !strcmp(path, watched))
        by_fd[fd] = -1;
    else if (name && !is_shm(name) && !fstat(fd, &status))
        by_fd[fd] = (int)(known(&status, 0) - files) + 1;
    pthread_mutex_unlock(&lock);
}

#define OPENED(path, flags, mode)                       \
    va_list more;                                       \
    va_start(more, flags);                              \
    mode_t mode = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
    va_end(more);                                       \
    int fd = real_open(path, flags, mode);              \
    note_open(fd, path);                                \
    return fd;

int open(const char *path, int flags, ...) { OPENED(path, flags, mode) }
int open64(const char *path, int flags, ...) { OPENED(path, flags, mode) }

int close(int fd)
{
    if (fd >= 0 && fd < MOST_FDS && by_fd[fd]) {
        pthread_mutex_lock(&lock);
        by_fd[fd] = 0;
        pthread_mutex_unlock(&lock);
    }
    return real_close(fd);
}

static void soil(struct kept *file, off_t from, off_t to)
{
    pthread_mutex_lock(&lock);
    if (file->dirty_count == MOST_DIRTY)          /* never synced: one range that holds them all */
        for (int i = 1; i < MOST_DIRTY; i++, file->dirty_count = 1) {
            if (file->dirty[i].from < file->dirty[0].from) file->dirty[0].from = file->dirty[i].from;
            if (file->dirty[i].to > file->dirty[0].to) file->dirty[0].to = file->dirty[i].to;
        }
    file->dirty[file->dirty_count++] = (struct range){from, to};
    pthread_mutex_unlock(&lock);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at)
{
    struct kept *file = of_fd(fd);
    if (file && told("full")) {
        errno = ENOSPC;
        return -1;
    }
    ssize_t written = real_pwrite(fd, bytes, size, at);
    if (file && written > 0)
        soil(file, at, at + written);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return pwrite64(fd, bytes, size, at); }

ssize_t write(int fd, const void *bytes, size_t size)
{
    struct kept *file = of_fd(fd);
    if (file && told("full")) {
        errno = ENOSPC;
        return -1;
    }
    off_t at = file ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t written = real_write(fd, bytes, size);
    if (file && written > 0)
        soil(file, at, at + written);
    return written;
}

int ftruncate64(int fd, off_t size)
{
    struct kept *file = of_fd(fd);
    int failed = real_ftruncate(fd, size);
    if (file && !failed) {
        pthread_mutex_lock(&lock);
        if (file->shortest < 0 || size < file->shortest)
            file->shortest = size;
        pthread_mutex_unlock(&lock);
    }
    return failed;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static void copy_range(int from_fd, int to_fd, struct range range)
{
    static char bytes[65536];
    for (off_t at = range.from; at < range.to;) {
        size_t size = (size_t)(range.to - at) < sizeof bytes ? (size_t)(range.to - at) : sizeof bytes;
        ssize_t got = pread64(from_fd, bytes, size, at);
        if (got <= 0)
            return;                               /* cut off since */
        if (real_pwrite(to_fd, bytes, (size_t)got, at) != got)
            die("the copy cannot be written");
        at += got;
    }
}

static void keep_content(int fd, struct kept *file)
{
    char path[PATH_MAX + 300];
    struct stat status;
    if (!file->dirty_count && file->shortest < 0)
        return;
    snprintf(path, sizeof path, "%s/%d", copy, file->number);
    int to = real_open(path, O_RDWR | O_CREAT, 0600);
    int from;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    from = real_open(path, O_RDONLY);
    if (to < 0 || from < 0 || fstat(fd, &status))
        die("the copy cannot be opened");
    if (file->shortest >= 0 && !fstat(to, &status) && status.st_size > file->shortest
        && real_ftruncate(to, file->shortest))
        die("ftruncate");
    for (int i = 0; i < file->dirty_count; i++)
        copy_range(from, to, file->dirty[i]);
    if (!fstat(fd, &status) && real_ftruncate(to, status.st_size))
        die("ftruncate");
    file->dirty_count = 0;
    file->shortest = -1;
    real_close(from);
    real_close(to);
}

static void keep_names(void)
{
    char path[PATH_MAX + 300], final[PATH_MAX + 300];
    struct stat status;
    DIR *entries = opendir(watched);
    snprintf(path, sizeof path, "%s/names.new", copy);
    FILE *names = fopen(path, "w");
    if (!entries || !names)
        die("the names cannot be kept");
    for (struct dirent *entry; (entry = readdir(entries));) {
        snprintf(final, sizeof final, "%s/%s", watched, entry->d_name);
        if (!is_shm(entry->d_name) && !stat(final, &status) && S_ISREG(status.st_mode))
            fprintf(names, "%d %s\n", known(&status, 0)->number, entry->d_name);
    }
    closedir(entries);
    if (fclose(names))
        die("the names cannot be written");
    snprintf(final, sizeof final, "%s/names", copy);
    if (rename(path, final))
        die("the names cannot be replaced");
}

static int sync_one(int fd)
{
    if (fd >= 0 && fd < MOST_FDS && by_fd[fd]) {
        if (told("broken")) {
            errno = EIO;
            return -1;
        }
        pthread_mutex_lock(&lock);
        if (by_fd[fd] > 0)
            keep_content(fd, &files[by_fd[fd] - 1]);
        else if (by_fd[fd] == -1)
            keep_names();
        pthread_mutex_unlock(&lock);
    }
    return real_fsync(fd);
}

int fsync(int fd) { return sync_one(fd); }
int fdatasync(int fd) { return sync_one(fd); }

int unlink(const char *path)
{
    struct stat status;
    if (name_in(path) && !stat(path, &status)) {
        pthread_mutex_lock(&lock);
        for (int i = 0; i < MOST_FILES; i++)
            if (files[i].used && files[i].device == status.st_dev && files[i].inode == status.st_ino)
                files[i].used = 0;                /* its number, and what the copy has of it, stay with its name */
        pthread_mutex_unlock(&lock);
    }
    return real_unlink(path);
}
