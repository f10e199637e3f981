"""What Gupta et al. 2017 published, to stand beside our figures.

Only what could be checked: the paper states the mean gains of its recurrent network over the real-time baseline, and
the protocol; the single cells of its tables are in none of the sources that this was written from.
"""

GAIN_PSNR = 0.5  # dB, recurrent over independent, mean over the five styles (Table 1)
GAIN_SSIM = 0.08
STYLES = ("the_great_wave", "portrait_de_metzinger", "composition_xiv", "mosaic", "rain_princess")
