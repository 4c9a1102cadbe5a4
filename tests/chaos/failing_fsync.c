/* Makes fsync and fdatasync fail with EIO, as a dying disk does.
 *
 * For LD_PRELOAD. While the file $FAILING_FSYNC_FLAG is there, every file whose path begins with
 * $FAILING_FSYNC_UNDER and contains the flag file's text cannot be made durable.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *flag = getenv("FAILING_FSYNC_FLAG"), *under = getenv("FAILING_FSYNC_UNDER");
    char link[64], path[PATH_MAX], part[256];
    int saved = errno, found = 0;
    if (flag == NULL || under == NULL) return 0;
    int handle = open(flag, O_RDONLY | O_CLOEXEC);
    if (handle >= 0) {
        ssize_t size = read(handle, part, sizeof part - 1);
        close(handle);
        part[size > 0 ? size : 0] = '\0';
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length > 0) {
            path[length] = '\0';
            found = strncmp(path, under, strlen(under)) == 0 && strstr(path, part) != NULL;
        }
    }
    errno = saved;
    return found;
}

static int sync_by(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

int fsync(int fd) { return sync_by("fsync", fd); }
int fdatasync(int fd) { return sync_by("fdatasync", fd); }
