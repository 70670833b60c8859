"""What memcached is to Swift, inside the one process of its proxy: tempauth keeps its tokens there."""

from time import monotonic


class Cache:
    def __init__(self):
        self.entries = {}

    def get(self, key, raise_on_error=False):
        value, expiry = self.entries.get(key, (None, None))
        if expiry is not None and expiry <= monotonic():
            del self.entries[key]
            return None
        return value

    def set(self, key, value, serialize=True, time=0, min_compress_len=0, raise_on_error=False):
        self.entries[key] = (value, monotonic() + time if time else None)

    def incr(self, key, delta=1, time=0):
        value = max(0, int(self.get(key) or 0) + int(delta))
        self.set(key, value, time=time)
        return value

    def decr(self, key, delta=1, time=0):
        return self.incr(key, -int(delta), time)

    def delete(self, key, server_key=None):
        self.entries.pop(key, None)

    def set_multi(self, mapping, server_key, serialize=True, time=0, min_compress_len=0):
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys, server_key):
        return [self.get(key) for key in keys]


def filter_factory(global_configuration, **configuration):
    cache = Cache()

    def make_filter(application):
        def call(environment, start_response):
            environment["swift.cache"] = cache
            return application(environment, start_response)

        return call

    return make_filter
