"""Camera and canvas of the synthetic scenes.

World coordinates are metres in the frame of the street: u across (right is positive), v along, y up. The camera stands
at v = 0 and looks level; its principal point is shifted to place the horizon. Both sensors see the same canvas of three
bands of visible radiance (linear, 1 = a white wall in full light) and the temperature in degrees Celsius.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from fusionlib.data.synthetic.light import Light

OVERSAMPLING = 2  # canvas pixels per image pixel, along each axis
NEAR = 0.6        # metres; nothing nearer is drawn
EMPTY = -273.0    # degrees Celsius of unpainted pixels
_BITS = 4         # fractional bits of polygon corners


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera: focal length and horizon in pixels, the rest in metres and radians."""

    size: tuple[int, int]
    focal: float
    horizon: float
    height: float
    u: float
    yaw: float

    def view(self, u, v):
        """Street coordinates to camera coordinates: (right, depth) in metres."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        u = u - self.u
        return u * cos - v * sin, u * sin + v * cos

    def street(self, right, depth):
        """The inverse of `view`."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return self.u + right * cos + depth * sin, depth * cos - right * sin

    def pixels(self, right, depth, y):
        """Camera coordinates and height above the ground to image positions [..., 2] (x, y)."""
        scale = self.focal / depth
        out = np.empty((*np.shape(depth), 2))
        out[..., 0], out[..., 1] = self.size[1] / 2 + right * scale, self.horizon + (self.height - y) * scale
        return out

    def project(self, polygons):
        """World polygons [K, n, 3] to image polygons [n, 2], clipped at the near plane, without those out of view."""
        polygons = np.asarray(polygons, float)
        right, depth = self.view(polygons[..., 0], polygons[..., 1])
        inside = depth >= NEAR
        whole = inside.all(1)
        points = self.pixels(right[whole], depth[whole], polygons[whole, :, 2])
        x = points[..., 0]
        points = points[(x.max(1) > 0) & (x.min(1) < self.size[1])]
        if whole.all():
            return points
        cut = inside.any(1) & ~whole
        corners = np.stack([right[cut], depth[cut], polygons[cut, :, 2]], -1)
        return [*points, *(self.pixels(*_clip(polygon).T) for polygon in corners)]


def _clip(corners):
    """The part of one polygon [n, 3] (right, depth, y) beyond the near plane (Sutherland and Hodgman, 1974)."""
    out = []
    for a, b in zip(corners, np.roll(corners, -1, 0)):
        if a[1] >= NEAR:
            out.append(a)
        if (a[1] >= NEAR) != (b[1] >= NEAR):
            out.append(a + (b - a) * (NEAR - a[1]) / (b[1] - a[1]))
    return np.array(out)


class Canvas:
    """Painter's canvas: `image` float32 [2H, 2W, 4] (r, g, b, degrees) and `people` uint8 [2H, 2W] (0 = nobody)."""

    def __init__(self, camera: Camera, light: Light):
        self.camera, self.light = camera, light
        height, width = (OVERSAMPLING * n for n in camera.size)
        self.image = np.empty((height, width, 4), np.float32)
        cv2.rectangle(self.image, (0, 0), (width, height), (0, 0, 0, EMPTY), cv2.FILLED)
        self.people = np.zeros((height, width), np.uint8)
        self.crowded = False

    def fill(self, polygons, rgb, degrees, person=0):
        """Fill image polygons [n, 2]; anything but a person hides the people behind it."""
        corners = list(fixed_point(polygons) if isinstance(polygons, np.ndarray) else map(fixed_point, polygons))
        if not corners:
            return
        cv2.fillPoly(self.image, corners, (*map(float, rgb), float(degrees)), cv2.LINE_8, _BITS)
        self.crowded |= person > 0
        if self.crowded:
            cv2.fillPoly(self.people, corners, person, cv2.LINE_8, _BITS)

    def fill_faces(self, faces, rgb, degrees):
        """Fill world polygons [K, n, 3] with a radiance."""
        self.fill(self.camera.project(faces), rgb, degrees)

    def billboard(self, u, v, shapes, person=0):
        """Draw shapes, from back to front, that stand upright at (u, v) and face the camera."""
        right, depth = self.camera.view(u, v)
        if abs(right) - 3 > depth * self.camera.size[1] / 2 / self.camera.focal:   # nothing is wider than 3 m
            return
        foot, scale = self.camera.pixels(right, depth, 0.0), self.camera.focal / depth * np.array([1, -1])
        light = self.light(u, v, 1.0)
        for shape in shapes:
            rgb = shape.rgb if shape.shines else np.asarray(shape.rgb) * light
            outlines = shape.outline if shape.outline.ndim == 3 else shape.outline[None]
            self.fill(outlines * scale + foot, rgb, shape.degrees, person if shape.body else 0)


class Shape(NamedTuple):
    """An outline [n, 2] of one material, in metres to the right and up, or several [K, n, 2] filled by parity."""

    outline: np.ndarray
    rgb: tuple               # albedo, or radiance of what shines
    degrees: float
    body: bool = False       # belongs to a person, as opposed to what is carried
    shines: bool = False


def fixed_point(polygon, scale=OVERSAMPLING):
    """Image positions [..., 2] to OpenCV's fixed-point corners (pixel centres at integers), enlarged by `scale`."""
    return np.rint((np.asarray(polygon) * scale - 0.5) * (1 << _BITS)).astype(np.int32)


def rectangles(a0, a1, b0, b1, axes, origin):
    """World polygons [K, 4, 3] of rectangles from a0 to a1 along one axis and b0 to b1 along another."""
    out = np.tile(np.array(origin, float), (np.broadcast(a0, a1, b0, b1).size, 4, 1))
    for corner, (a, b) in enumerate(((a0, b0), (a1, b0), (a1, b1), (a0, b1))):
        out[:, corner, axes[0]] += a
        out[:, corner, axes[1]] += b
    return out


def coverage(size, polygons):
    """Antialiased coverage uint8 [H, W] of image polygons."""
    out = np.zeros(size, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(out, [fixed_point(polygon, 1)], 255, cv2.LINE_AA, _BITS)
    return out


def capsules(start, end, start_radius, end_radius):
    """Tapered capsules [K, 14, 2] from `start` [K, 2] to `end` [K, 2] with radii [K]."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = np.arctan2(*(end - start).T[::-1])[:, None]
    turn = np.linspace(-np.pi / 2, np.pi / 2, 7)
    ring = np.stack([np.cos(along + turn), np.sin(along + turn)], -1)
    radius = [np.broadcast_to(np.asarray(r, float), len(start))[:, None, None] for r in (end_radius, start_radius)]
    return np.concatenate([end[:, None] + ring * radius[0], start[:, None] - ring * radius[1]], 1)


CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 16, endpoint=False)) for f in (np.cos, np.sin)], -1)
